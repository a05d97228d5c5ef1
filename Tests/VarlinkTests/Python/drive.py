"""Drives a varlink service with PyPI's varlink package and prints what it saw as one JSON object.

drive.py introspect SOCKET INTERFACE
drive.py call SOCKET INTERFACE METHOD PARAMETERS-AS-JSON
drive.py more SOCKET INTERFACE METHOD PARAMETERS-AS-JSON
"""

import json
import sys

import varlink


def plain(value):
    """A reply as plain JSON values."""
    return json.loads(json.dumps(value, cls=varlink.VarlinkEncoder))


def main(action, socket, interface, *rest):
    with varlink.Client.new_with_address("unix:" + socket) as client:
        if action == "introspect":
            client.get_interface(interface)
            info = plain(client.info) if hasattr(client, "info") else {}
            parsed = varlink.Interface(client.get_interface(interface).get_description())
            methods = {
                name: [list(member.in_type.fields), list(member.out_type.fields)]
                for name, member in parsed.members.items()
                if type(member).__name__ == "_Method"
            }
            with client.open("org.varlink.service") as service:
                info = plain(service.GetInfo())
            return {"info": info, "methods": methods, "members": sorted(parsed.members)}
        method, parameters = rest[0], json.loads(rest[1])
        with client.open(interface) as connection:
            try:
                if action == "more":
                    replies = getattr(connection, method)(**parameters, _more=True)
                    return {"replies": [plain(reply) for reply in replies]}
                return {"reply": plain(getattr(connection, method)(**parameters))}
            except varlink.VarlinkError as error:
                return {"error": error.error(), "parameters": plain(error.parameters())}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))

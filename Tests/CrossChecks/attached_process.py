"""Plays a process that owns a TD's VM and attaches it to tdxd: serves io.tdxd.Holder on socket pairs of its own making.

Usage: attached_process.py SOCKET NAME MEBIBYTES [OPTION=VALUE ...]
  figures=JSON   members of the description that are to be replaced
  stop=refuse    answer Stop with WrongState
  build=never    never make the TD
  file=none|PATH give no memory, or that file for it
Prints a line for each step. Ends with its TD after Stop and Reclaim; comes back when tdxd has gone.
"""
import array, ctypes, fcntl, json, mmap, os, socket, struct, sys, threading, time

PATH, NAME, MEMORY = sys.argv[1], sys.argv[2], int(sys.argv[3]) << 20
OPTIONS = dict(o.split("=", 1) for o in sys.argv[4:])
LOCK = threading.Lock()
STATE = {"state": "empty", "id": "", "key": 0}
FILES = []


def say(*words):
    print(*words, flush=True)


def send(sock, message, fds=()):
    data = json.dumps(message).encode() + b"\0"
    while data:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        data, fds = data[sock.sendmsg([data], rights):], ()


def messages(sock):
    buffer = b""
    while True:
        while b"\0" not in buffer:
            data = sock.recv(1 << 16)
            if not data:
                return
            buffer += data
        message, buffer = buffer.split(b"\0", 1)
        yield json.loads(message)


def description():
    used = 1 << 20
    value = {
        "name": NAME, "id": STATE["id"], "state": STATE["state"], "backend": "memfd", "emulated": True,
        "memory_bytes": MEMORY, "private_bytes": MEMORY - used, "shared_bytes": used, "converting_bytes": 0,
        "resident_private_bytes": 0, "resident_shared_bytes": 0, "vcpus": 1, "key_id": STATE["key"],
        "pid": os.getpid(), "mrtd": "ab" * 48, "created_at": "2026-01-01T00:00:00Z", "owner_uid": os.geteuid(),
    }
    value.update(json.loads(OPTIONS.get("figures", "{}")))
    return value


def build():
    if OPTIONS.get("file") not in (None, "none"):
        FILES.append(os.open(OPTIONS["file"], os.O_RDWR))
    elif "file" not in OPTIONS:
        for kind in ("private", "shared"):
            fd = os.memfd_create("tdxd-attached-" + kind, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(fd, MEMORY)
            FILES.append(fd)
        os.pwrite(FILES[0], b"x" * (8 << 20), 0)
    with LOCK:
        STATE["state"] = "runnable"


def phase(name, size=0):
    return {"name": name, "milliseconds": 1.0, "bytes": size, "calls": 1}


def answer(sock, call):
    method = call["method"].rsplit(".", 1)[-1]
    say("call", method)
    if method == "Describe":
        return send(sock, {"parameters": {"description": description()}})
    if method == "GetBacking":
        files = [{"kind": "private" if i == 0 else "shared", "gpa": 0, "bytes": MEMORY, "inode": os.fstat(f).st_ino}
                 for i, f in enumerate(FILES)]
        return send(sock, {"parameters": {"files": files}}, FILES)
    if method == "Map":
        return send(sock, {"parameters": {"runs": [{"gpa": 0, "bytes": MEMORY, "attribute": "private"}]}})
    if method == "Stop" and OPTIONS.get("stop") == "refuse":
        return send(sock, {"error": "io.tdxd.Holder.WrongState",
                           "parameters": {"name": NAME, "state": "migrating", "operation": "stop"}})
    if method in ("Stop", "Reclaim"):
        with LOCK:
            STATE["state"] = "halted"
        phases = [phase("quiesce"), phase("terminate")]
        if method == "Reclaim":
            for fd in FILES:
                os.ftruncate(fd, 0)
                os.close(fd)
            phases += [phase("release", 8 << 20), phase("close")]
        send(sock, {"parameters": {"phases": phases, "proofs": [], "path": "terminate-first",
                                   "released_bytes": (8 << 20) if method == "Reclaim" else 0}})
        if method == "Reclaim":
            say("gone")
            os._exit(0)
        return None
    return send(sock, {"error": "org.varlink.service.MethodNotImplemented", "parameters": {"method": call["method"]}})


def serve(sock, isLast):
    for call in messages(sock):
        answer(sock, call)
    sock.close()
    if isLast:
        threading.Thread(target=come_back).start()


def attach():
    parameters = {"name": NAME, "memory_bytes": MEMORY, "vcpus": 1}
    if STATE["id"]:
        parameters["id"] = STATE["id"]
    control = socket.socket(socket.AF_UNIX)
    control.connect(PATH)
    pairs = [socket.socketpair() for _ in range(2)]
    for index, (mine, _) in enumerate(pairs):
        threading.Thread(target=serve, args=(mine, index == 0), daemon=True).start()
    send(control, {"method": "io.tdxd.Manager.Attach", "parameters": parameters}, [theirs.fileno() for _, theirs in pairs])
    for _, theirs in pairs:
        theirs.close()
    reply = next(messages(control), {"error": "closed"})
    if "error" in reply:
        say("refused", reply["error"].rsplit(".", 1)[-1], json.dumps(reply.get("parameters", {})))
        return False
    with LOCK:
        STATE["id"], STATE["key"] = reply["parameters"]["id"], reply["parameters"]["key_id"]
    say("attached", STATE["id"], reply["parameters"]["state"])
    return True


def come_back():
    while True:
        time.sleep(0.1)
        try:
            if attach():
                say("back")
                return
        except OSError:
            continue


if not attach():
    sys.exit(1)
if OPTIONS.get("build") != "never":
    build()
    if not attach():
        sys.exit(1)
while True:
    time.sleep(60)

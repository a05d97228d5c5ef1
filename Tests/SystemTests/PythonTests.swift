import ControlInterface
import Glibc
import LinuxSystem
import Testing

/// A varlink implementation that nobody here wrote: the package from PyPI, in the environment that
/// `scripts/python-varlink-venv` makes.
@Suite struct PythonTests {
    static let python: String? = {
        var directory = Programs.directory
        while let end = directory.lastIndex(of: "/"), end != directory.startIndex {
            let candidate = directory + "/python-varlink/bin/python"
            if access(candidate, X_OK) == 0 { return candidate }
            directory = String(directory[..<end])
        }
        return nil
    }()

    static let script = """
        import json, sys, varlink
        client = varlink.Client.new_with_address("unix:" + sys.argv[1])
        service = client.open("org.varlink.service")
        info = service.GetInfo()
        assert "io.tdxd.Manager" in info["interfaces"], info
        text = service.GetInterfaceDescription("io.tdxd.Manager")["description"]
        interface = varlink.Interface(text)
        assert interface.name == "io.tdxd.Manager"
        with client.open("io.tdxd.Manager") as manager:
            assert manager.List()["domains"] == []
            domain = None
            for reply in manager.Create(name="python", memory_bytes=64 << 20, vcpus=1, _more=True):
                domain = reply.get("domain") or domain
            assert domain["name"] == "python" and domain["state"] == "runnable", domain
            assert [d["name"] for d in manager.List()["domains"]] == ["python"]
            try:
                manager.Create(name="python", memory_bytes=64 << 20, vcpus=1)
                raise SystemExit("the name was taken twice")
            except varlink.VarlinkError as error:
                assert error.error() == "io.tdxd.Manager.NameTaken", error
                assert error.parameters()["name"] == "python"
            converted = manager.Convert("python", 0, 1 << 20, "shared")
            assert converted["changed_bytes"] == 1 << 20, converted
            certificate = manager.Stop("python")["certificate"]
            assert certificate["complete"], certificate
            assert manager.List()["domains"] == []
        print("fine")
        """

    @Test(.enabled(if: python != nil, "no PyPI varlink package: run scripts/python-varlink-venv"))
    func `Python's varlink introspects tdxd and runs a TD's whole life`() throws {
        let host = try PrivateHost()
        let result = try runProgram(Self.python!, ["-c", Self.script, host.socket], in: host.directory)
        #expect(result.output == "fine\n", "\(result)\n\(host.log)")
        #expect(host.leavesNothing())
    }
}

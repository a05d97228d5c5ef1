import Testing

@testable import HostVMs

@Suite struct NamesTests {
    @Test(arguments: [
        (["qemu-system-x86_64", "-name", "guest=web1,debug-threads=on"], "web1"),
        (["qemu-system-x86_64", "-name", "web1"], "web1"),
        (["qemu-system-x86_64", "-name", "debug-threads=on,guest=web1"], "web1"),
        (["vmm", "--name=web1"], "web1"), (["qemu", "-name"], nil), (["qemu", "-name", ""], nil), ([], nil),
    ])
    func `A VM's name is read from its VMM's command line`(words: [String], name: String?) {
        let bytes: [UInt8] = words.reduce(into: []) { $0 += Array($1.utf8) + [0] }
        #expect(CommandLineNames.name(in: bytes) == name)
    }

    @Test(arguments: [
        ("machine-qemu\\x2d12\\x2dweb\\x2d1.scope", "web-1"), ("machine-plain.scope", "plain"),
        ("machine-.scope", nil), ("ssh.service", nil), ("machine-a\\x2.scope", "a\\x2"),
    ])
    func `A machine's name is read from its unit`(unit: String, name: String?) {
        #expect(ControlGroupNames.machine(of: unit) == name)
    }

    @Test func `The unit is the innermost one, and a pod is named by its uid`() {
        let path =
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a1b2c3d_0a1b_2c3d_4e5f_0a1b2c3d4e5f.slice/"
            + "cri-containerd-ff.scope"
        #expect(ControlGroupNames.unit(of: path) == "cri-containerd-ff.scope")
        #expect(ControlGroupNames.pod(of: path) == "0a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f")
        #expect(ControlGroupNames.pod(of: "/system.slice/podman.service") == nil)
        #expect(ControlGroupNames.path(in: "1:cpu:/a\n0::/system.slice/x.service\n") == "/system.slice/x.service")
    }
}

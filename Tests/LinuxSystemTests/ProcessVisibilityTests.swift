import Testing

@testable import LinuxSystem

@Suite struct ProcessVisibilityTests {
    static func mounts(_ options: String) -> String {
        "21 28 0:20 / /sys rw,nosuid - sysfs sysfs rw\n22 28 0:21 / /proc rw,nosuid - proc proc rw\n"
            + "90 28 0:60 / /proc rw,nosuid,nodev,noexec,relatime - proc proc \(options)\n"
    }

    @Test func `hidepid hides the processes of other users, by name and by number`() {
        for options in ["rw,hidepid=invisible", "rw,hidepid=2", "rw,hidepid=ptraceable,subset=pid", "rw,hidepid=4"] {
            #expect(ProcessVisibility.hidesOthers(mountInfo: Self.mounts(options)), "\(options)")
        }
        for options in ["rw", "rw,hidepid=0", "rw,hidepid=noaccess", "rw,gid=2,hidepid=1"] {
            #expect(!ProcessVisibility.hidesOthers(mountInfo: Self.mounts(options)), "\(options)")
        }
        #expect(!ProcessVisibility.hidesOthers(mountInfo: ""))
    }

    @Test func `who may trace sees them all the same`() throws {
        #expect(ProcessVisibility.mayTrace(status: "Name:\ttdxd\nCapEff:\t0000000000080000\n"))
        #expect(!ProcessVisibility.mayTrace(status: "CapEff:\t0000000000000000\n"))
        #expect(!ProcessVisibility.mayTrace(status: ""))
        let tree = try TemporaryTree()
        #expect(ProcessVisibility.othersAreHidden(procDirectory: tree.path))
        try tree.write("self/mountinfo", Self.mounts("rw,hidepid=2"))
        #expect(ProcessVisibility.othersAreHidden(procDirectory: tree.path))
        try tree.write("self/status", "CapEff:\t000001ffffffffff\n")
        #expect(!ProcessVisibility.othersAreHidden(procDirectory: tree.path))
    }
}

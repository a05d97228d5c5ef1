import ControlInterface
import Glibc
import LinuxSystem
import Testing

/// Recordings of the software module, made by holders that tdxd started.
@Suite struct TraceTests {
    @Test func `each TD of an emulated backend is recorded where the configuration says, and replays`() throws {
        let host = try PrivateHost(start: false)
        let traces = host.directory + "/traces/here"
        try host.configure(settings: "emulated_traces = \(traces)")
        try host.start()
        var files: [String] = []
        for name in ["web1", "web2"] {
            let created = try host.create(name, mebibytes: 4)
            _ = try host.stop(name)
            files.append("\(traces)/\(created.id).jsonl")
        }
        #expect(host.leavesNothing())
        for file in files {
            let replay = try host.tdxctl("trace", "replay", file)
            #expect(replay.status == 0, "\(replay)")
            let report = try JSONValue(host.tdxctl("trace", "replay", file, "--json=short"))
            #expect(report["agrees"] == .bool(true) && report["disagreements"].elements.isEmpty, "\(report)")
        }
        var status = stat()
        #expect(stat(files[0], &status) == 0 && status.st_mode & 0o777 == 0o600)
    }

    @Test(arguments: ["traces", "/a/../b", "\"\""])
    func `a place for recordings that is no path is refused by its name`(value: String) throws {
        let host = try PrivateHost(start: false)
        try host.configure(settings: "emulated_traces = \(value)")
        let failure = #expect(throws: PrivateHost.NotServing.self) { try host.start() }
        #expect(failure?.description.contains("emulated_traces") == true, "\(String(describing: failure))")
    }
}

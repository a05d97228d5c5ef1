import ControlInterface
import Glibc
import LinuxSystem
import Testing

/// What `backend = auto` takes where the host offers less than it had.
@Suite struct BackendRecordTests {
    private func write(_ text: String, _ host: PrivateHost) throws {
        let file = try openForAppending(host.state + "/backend.json")
        let bytes = Array(text.utf8)
        try #require(Glibc.write(file.rawValue, bytes, bytes.count) == bytes.count)
    }

    @Test func `auto refuses a backend that is weaker than the one before, until an administrator names one`() throws {
        let host = try PrivateHost(backend: "auto", start: false)
        mkdir(host.state, 0o755)
        // No machine of the tests has TDX; the next best is what /dev/kvm gives, or memfd.
        try write(#"{"backend":"tdx","since":"2026-01-02T03:04:05Z"}"#, host)
        try host.start()
        guard case .holderFailed(_, let reason) = refusal({ _ = try host.create("web1") }) else {
            Issue.record("a weaker backend was taken")
            return
        }
        #expect(reason.contains("had tdx since 2026-01-02T03:04:05Z") && reason.contains("backend.json"), "\(reason)")
        #expect(try host.leavesNothing() && host.list().isEmpty)
        let said = try host.tdxctl("create", "web2", "--memory", "16M")
        #expect(said.status != 0, "\(said)")

        try host.configure(backend: "memfd")
        host.signal(.hangUp)
        #expect(try eventually { try host.tdxctl("create", "web3", "--memory", "16M").status == 0 }, "\(host.log)")
    }

    @Test func `the first TD notes its backend, and an unreadable note is not taken for none`() throws {
        let host = try PrivateHost(backend: "auto")
        let backend = try host.create("web1").backend
        let note = try TextFile.read(host.state + "/backend.json")
        #expect(note.contains(#""\#(backend.rawValue)""#), "\(note)")
        // The next tdxd, and the same backend.
        host.kill(.kill)
        try host.start()
        #expect(try host.create("web2").backend == backend)

        unlink(host.state + "/backend.json")
        try write("{", host)
        guard case .holderFailed(_, let reason) = refusal({ _ = try host.create("web3") }) else {
            Issue.record("what cannot be read was taken for nothing")
            return
        }
        #expect(reason.contains("is unknown") && reason.contains("backend.json"), "\(reason)")
        unlink(host.state + "/backend.json")
        #expect(try host.create("web4").backend == backend)
    }

    @Test func `the order of backends is the one in which auto chooses`() {
        #expect(Backend.preference.count == Backend.allCases.count)
        for (index, backend) in Backend.preference.enumerated() {
            for (other, better) in Backend.preference.enumerated() {
                #expect(backend.isWeaker(than: better) == (index > other))
            }
        }
    }
}

import ControlInterface
import Glibc
import LinuxSystem
import Testing

@testable import TDXDaemon

/// What the misc controller says of a TD's key id, in a tree of the test's own.
@Suite struct KeyChargeTests {
    private let place: TemporaryDirectory
    private var group: String { place.path + "/tdxd.service/td-web1" }

    init() throws {
        place = try TemporaryDirectory()
        try DirectoryTree.make(place.path + "/tdxd.service/td-web1", mode: 0o755)
    }

    private func write(_ text: String, _ directory: String) throws {
        try DurableFile.write(Array(text.utf8), name: "misc.current", in: directory)
    }

    @Test func `the TD's own group proves it, and is preferred`() throws {
        try write("tdx 3\n", place.path)
        try write("sev 7\ntdx 1\n", group)
        let charged = KeyCharge.read(.tdx, group: group, root: place.path)
        #expect(charged == .group(1) && charged.proof?.holds == false && charged.proof?.name == "key_id_uncharged")
        try write("tdx 0\n", group)
        let free = KeyCharge.read(.tdx, group: group, root: place.path)
        #expect(free == .group(0) && free.proof?.holds == true)
        var evidence = TeardownProofTests.good
        evidence.keyCharge = charged
        #expect(TeardownProofs.derive(from: evidence).filter { !$0.holds }.map(\.name) == ["key_id_uncharged"])
        #expect(!TeardownProofs.isOver(TeardownProofs.derive(from: evidence), residencyIsKnown: true))
    }

    @Test func `the whole host's figure is told and proves nothing`() throws {
        try write("tdx 3\n", place.path)
        let host = KeyCharge.read(.tdx, group: group, root: place.path)
        #expect(
            host == .host(3) && host.proof == nil && host.words == "misc.current of the host is 3, whoever's they are")
        #expect(KeyCharge.read(.tdx, group: nil, root: place.path) == .host(3))
    }

    @Test func `where there is none, or not of TDX, the certificate says so`() throws {
        let absent = KeyCharge.read(.tdx, group: group, root: place.path)
        #expect(absent.proof == nil && absent.words.hasPrefix("misc.current is not available: "))
        try write("sev 7\n", place.path)
        #expect(KeyCharge.read(.tdx, group: group, root: place.path) == .unavailable("misc.current has no line “tdx”"))
        // A host's own TDs are no emulated TD's.
        try write("tdx 3\n", place.path)
        let emulated = KeyCharge.read(.memfd, group: group, root: place.path)
        #expect(emulated.proof == nil && emulated.words.contains("emulated"))
    }
}

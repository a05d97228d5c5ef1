import ControlInterface
import Terms
import Testing

@testable import TDXDaemon

@Suite struct HolderClaimsTests {
    static let claims = HolderClaims(guestBytes: 64 << 20)

    static func run(_ gpa: UInt64, _ bytes: UInt64 = 4096) -> MemoryRun {
        MemoryRun(gpa: gpa, bytes: bytes, attribute: .shared)
    }

    @Test func `a range may come again among changes, and not in a map`() throws {
        let runs = [Self.run(8192), Self.run(0), Self.run(8192)]
        try Self.claims.check(changes: runs, isSnapshot: false)
        #expect(throws: Refusal.self) { try Self.claims.check(changes: runs, isSnapshot: true) }
        #expect(throws: Refusal.self) { try Self.claims.check(runs) }
        try Self.claims.check([Self.run(0), Self.run(4096)])
    }

    @Test(arguments: [run(1 << 52), run(0, 0), run(0, 1 << 63), run(UInt64.max)])
    func `a run that no TD can have is refused in either`(run: MemoryRun) {
        #expect(throws: Refusal.self) { try Self.claims.check([run]) }
        #expect(throws: Refusal.self) { try Self.claims.check(changes: [run], isSnapshot: false) }
    }
}

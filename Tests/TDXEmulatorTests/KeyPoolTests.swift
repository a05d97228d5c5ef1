import MemoryUnits
import SystemPackage
import Testing

@testable import TDXEmulator

@Suite struct KeyPoolTests {
    @Test func `The lowest key id is given first and comes back`() throws {
        let pool = KeyPool([KeyID(40), KeyID(35)], limit: nil)
        #expect(try pool.allocate() == KeyID(35))
        #expect(try pool.allocate() == KeyID(40))
        #expect(throws: Errno.noSpace) { try pool.allocate() }
        pool.release(KeyID(35))
        #expect(pool.freeCount == 1 && pool.chargedCount == 1)
        #expect(try pool.allocate() == KeyID(35))
    }

    @Test(arguments: [(0, Errno.invalidArgument), (1, Errno.resourceBusy)])
    func `The misc limit refuses before the pool is empty`(limit: Int, errno: Errno) throws {
        let pool = KeyPool([KeyID(35), KeyID(36)], limit: limit)
        for _ in 0..<limit { _ = try pool.allocate() }
        #expect(throws: errno) { try pool.allocate() }
        #expect(pool.freeCount == 2 - limit)
    }
}

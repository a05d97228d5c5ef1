import ControlInterface
import MemoryUnits
import Testing

@testable import TDXDaemon

@Suite struct MemoryDemandTests {
    @Test(arguments: [
        (Backend.tdx, 34, 0), (.softwareProtected, 26, 32), (.guestMemfd, 17, 32), (.memfd, 17, 32),
    ])
    func `a demand counts the guest, one chunk twice, and what kernel and software module keep of each page`(
        backend: Backend, tables: UInt64, module: UInt64
    ) {
        let demand = MemoryDemand(guest: .gibibytes(1), on: backend)
        #expect(demand.conversion == .mebibytes(64))
        #expect(demand.tables == ByteCount(262_144 * tables))
        #expect(demand.module == ByteCount(262_144 * module))
        #expect(demand.total == .gibibytes(1) + .mebibytes(64) + demand.tables + demand.module)
        #expect(demand.rest(after: .resident(.zero)) == demand.total)
    }

    @Test func `what is resident is not taken again, and a conversion may still double a chunk`() {
        let demand = MemoryDemand(guest: .gibibytes(4), on: .tdx)
        let half = demand.rest(after: .resident(.gibibytes(2)))
        #expect(half == .gibibytes(2) + .mebibytes(64) + ByteCount(524_288 * 34))
        #expect(demand.rest(after: .resident(.gibibytes(4))) == .mebibytes(64))
        // Both sides are there, as in the middle of a conversion.
        #expect(demand.rest(after: .resident(.gibibytes(5))) == .mebibytes(64))
        #expect(MemoryDemand(guest: .mebibytes(8), on: .tdx).conversion == .mebibytes(8))
    }

    @Test func `what a control group is charged with counts as taken, tables included`() {
        let demand = MemoryDemand(guest: .gibibytes(4), on: .memfd)
        #expect(demand.rest(after: .charged(.zero)) == demand.total)
        #expect(demand.rest(after: .charged(.gibibytes(1))) == demand.total - .gibibytes(1))
        #expect(demand.rest(after: .charged(demand.total)) == .mebibytes(64))
        #expect(demand.rest(after: .charged(.gibibytes(9))) == .mebibytes(64))
    }

    @Test func `sums that no host has do not wrap`() {
        let all = MemoryDemand(guest: ByteCount(.max), on: .guestMemfd)
        #expect(all.total == ByteCount(.max))
        #expect(all.rest(after: .resident(ByteCount(1))) > ByteCount(.max - 1 << 20))
        #expect(MemoryDemand.sum([ByteCount(.max), ByteCount(1)]) == ByteCount(.max))
    }
}

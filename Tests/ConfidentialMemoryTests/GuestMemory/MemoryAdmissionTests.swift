import MemoryUnits
import Testing

@testable import ConfidentialMemory

@Suite struct MemoryAdmissionTests {
    @Test func `a demand counts the guest, one chunk twice, metadata where it is software's, and KVM's attributes`() {
        let demand = MemoryDemand(guest: .gibibytes(1), isEmulated: true)
        #expect(demand.pageMetadata == .mebibytes(4))
        #expect(demand.conversion == .mebibytes(64))
        #expect(demand.attributes == ByteCount(262_144 * 9))
        #expect(demand.total == .gibibytes(1) + .mebibytes(68) + ByteCount(262_144 * 9))
        #expect(MemoryDemand(guest: .gibibytes(1), isEmulated: false).pageMetadata == .zero)
    }

    @Test func `what fits is admitted to the last byte and refused one byte later`() throws {
        let demand = MemoryDemand(guest: .mebibytes(256), isEmulated: false)
        try MemoryAdmission.admit(demand, from: MemorySupply(available: demand.total))
        let less = demand.total - ByteCount(1)
        #expect(throws: InsufficientMemory(needed: demand.total, available: less, limit: .host)) {
            try MemoryAdmission.admit(demand, from: MemorySupply(available: less))
        }
    }

    @Test func `the tighter limit is named, and promises count against both`() {
        let demand = MemoryDemand(guest: .gibibytes(4), isEmulated: false)
        let supply = MemorySupply(
            available: .gibibytes(64), groupLimit: .gibibytes(8), groupCurrent: .gibibytes(3),
            promised: .gibibytes(2))
        #expect(
            throws: InsufficientMemory(needed: demand.total, available: .gibibytes(3), limit: .controlGroup)
        ) { try MemoryAdmission.admit(demand, from: supply) }
    }

    @Test func `a group that is over its limit has nothing, and sums do not wrap`() {
        let demand = MemoryDemand(guest: ByteCount(.max), isEmulated: true)
        #expect(demand.total == ByteCount(.max))
        let supply = MemorySupply(
            available: .gibibytes(64), groupLimit: .gibibytes(1), groupCurrent: .gibibytes(3))
        #expect(throws: InsufficientMemory(needed: ByteCount(.max), available: .zero, limit: .controlGroup)) {
            try MemoryAdmission.admit(demand, from: supply)
        }
    }
}

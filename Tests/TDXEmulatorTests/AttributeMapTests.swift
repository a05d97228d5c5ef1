import MemoryUnits
import TestSupport
import Testing

@testable import TDXEmulator

@Suite struct AttributeMapTests {
    private func range(_ start: UInt64, _ size: UInt64) -> GuestPhysicalRange {
        GuestPhysicalRange(start: GuestPhysicalAddress(start), size: ByteCount(size))
    }

    @Test func `Memory starts shared and a range becomes private exactly`() {
        var map = AttributeMap()
        let target = range(0x3FFF_F000, 0x4000_3000)
        #expect(map.isUniform(target, isPrivate: false))
        map.set(target, isPrivate: true)
        #expect(map.isUniform(target, isPrivate: true))
        #expect(!map.isPrivate(GuestPhysicalAddress(0x3FFF_E000)))
        #expect(map.isPrivate(GuestPhysicalAddress(0x3FFF_F000)))
        #expect(map.isPrivate(GuestPhysicalAddress(target.end.rawValue - 1)))
        #expect(!map.isPrivate(target.end))
        map.set(range(0x5000_0000, 0x1000), isPrivate: false)
        #expect(!map.isUniform(target, isPrivate: true))
        #expect(!map.isUniform(target, isPrivate: false))
        map.set(range(0, 1 << 40), isPrivate: false)
        #expect(map.isUniform(range(0, 1 << 40), isPrivate: false))
    }

    @Test func `Random changes agree with one flag per page`() {
        var generator = SeededRandom(seed: 11)
        var map = AttributeMap()
        let base = UInt64(1 << 30) - 300 * 4096
        var reference = [Bool](repeating: false, count: 600)
        for _ in 0..<500 {
            let first = Int.random(in: 0..<600, using: &generator)
            let end = Int.random(in: first + 1...600, using: &generator)
            let isPrivate = Bool.random(using: &generator)
            let piece = range(base + UInt64(first) * 4096, UInt64(end - first) * 4096)
            #expect(map.isUniform(piece, isPrivate: isPrivate) == reference[first..<end].allSatisfy { $0 == isPrivate })
            map.set(piece, isPrivate: isPrivate)
            for page in first..<end { reference[page] = isPrivate }
            let probe = Int.random(in: 0..<600, using: &generator)
            #expect(map.isPrivate(GuestPhysicalAddress(base + UInt64(probe) * 4096)) == reference[probe])
        }
    }
}

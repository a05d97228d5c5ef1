import KVM
import MemoryUnits
import SystemPackage
import Testing

@testable import ConfidentialMemory

@Suite struct VerifyTests {
    /// Memory of which 2 MiB are private and resident on both sides, as a failed discard leaves it.
    private static func makeDoubled(_ bench: TestBench) throws -> GuestMemory {
        let (memory, _) = try bench.makeMemory()
        let range = range(0xE0_0000, mebibytes: 4)
        try memory.fill(range, with: 4)
        bench.journal.fail { call in
            if call.description == "punch shared 0 B + 2 MiB" { return .ioError }
            return call.name == "attributes" && call.detail.hasSuffix("shared") ? .noMemory : nil
        }
        #expect(throws: ConversionError.self) { try memory.convert(range, to: .private) }
        bench.journal.fail(where: nil)
        try memory.fill(range, with: 5)
        return memory
    }

    @Test func `memory that is paid for once passes`() throws {
        let bench = TestBench()
        let (memory, _) = try bench.makeMemory()
        try memory.fill(range(0, mebibytes: 2), with: 1)
        try memory.convert(range(0x20_0000, mebibytes: 2), to: .private)
        try memory.fill(range(0x20_0000, mebibytes: 2), with: 1)
        let found = try memory.verify()
        #expect(found.doubles.isEmpty)
        #expect(found.checked == memory.size)
    }

    @Test func `a leftover is found, freed on request, and what is in use is kept`() throws {
        let bench = TestBench()
        let memory = try Self.makeDoubled(bench)
        let double = DoubleResidency(
            range: range(0x100_0000, mebibytes: 2), wasted: .shared, bytes: .mebibytes(2))
        #expect(try memory.verify().doubles == [double])
        #expect(try memory.verify().wasted == .mebibytes(2), "verify alone frees nothing")
        #expect(try memory.reclaim().doubles == [double])
        #expect(try memory.verify().doubles.isEmpty)
        #expect(try memory.firstByte(GuestPhysicalAddress(0x100_0000)) == 5)
    }

    @Test func `a refusal is passed on`() throws {
        let bench = TestBench()
        let memory = try Self.makeDoubled(bench)
        bench.journal.fail { $0.name == "punch" ? .ioError : nil }
        #expect {
            try memory.reclaim()
        } throws: { error in
            guard case .refused(let refusal)? = error as? GuestMemoryError else { return false }
            return refusal.operation == "punch"
        }
        bench.journal.fail(where: nil)
        #expect(try memory.verify().wasted == .mebibytes(2))
    }
}

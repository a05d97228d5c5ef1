import KVM
import MemoryUnits
import SystemPackage
import Testing

@testable import ConfidentialMemory

@Suite struct ConversionTests {
    @Test(arguments: [MemorySides.apart, .inPlace])
    func `contents do not survive a conversion in either direction and nothing stale is seen`(sides: MemorySides) throws
    {
        let bench = TestBench()
        let (memory, machine) = try bench.makeMemory(sides)
        let range = range(0x40_0000, mebibytes: 4)
        try memory.fill(range, with: 0xA5)
        for (side, byte) in [(MemorySide.private, UInt8(0x5A)), (.shared, 0xC3), (.private, 0x3C)] {
            let result = try memory.convert(range, to: side)
            #expect(result.changed == range.size)
            #expect(result.discarded == range.size)
            #expect(try memory.residency(of: range).total == .zero)
            #expect(try memory.firstByte(range.start) == 0)
            #expect(try memory.firstByte(GuestPhysicalAddress(range.end.rawValue - pageSize)) == 0)
            try memory.fill(range, with: byte)
            #expect(try memory.firstByte(range.start) == byte)
        }
        #expect(try memory.disagreement(with: machine.inner as! PlainMachine) == nil)
        memory.close()
        machine.close()
        #expect(bench.held == KernelLedger.Counts())
    }

    @Test func `a range crosses shards, in chunks that end on whole blocks`() throws {
        let bench = TestBench()
        let (memory, machine) = try bench.makeMemory()
        let range = range(0x1000, mebibytes: 20)
        try memory.fill(range, with: 1)
        bench.journal.reset()
        let result = try memory.convert(range, to: .private, chunk: .mebibytes(8))
        #expect(result.chunks == 3)
        #expect(result.discarded == .mebibytes(20))
        #expect(
            bench.journal.calls.filter { $0.name == "attributes" }.map(\.detail) == [
                "0x1000–0x800000 (8188 KiB) private", "0x800000–0x1000000 (8 MiB) private",
                "0x1000000–0x1401000 (4100 KiB) private",
            ])
        #expect(
            memory.runs() == [
                run(0..<1, .shared), run(1..<0x1401, .private), run(0x1401..<0x1800, .shared),
                PageRun(TestBench.regions[1].frames, .shared),
            ])
        #expect(try memory.disagreement(with: machine.inner as! PlainMachine) == nil)
    }

    @Test func `what is on the side already is neither changed nor discarded`() throws {
        let bench = TestBench()
        let (memory, _) = try bench.makeMemory()
        try memory.convert(range(0x20_0000, pages: 8), to: .private)
        try memory.fill(range(0x20_0000, pages: 8), with: 7)
        let result = try memory.convert(range(0x20_0000, pages: 16), to: .private)
        #expect(result.changed == PageCount(8).bytes)
        #expect(try memory.firstByte(GuestPhysicalAddress(0x20_0000)) == 7)
        bench.journal.reset()
        #expect(try memory.convert(range(0x20_0000, pages: 16), to: .private) == ConversionResult())
        #expect(bench.journal.calls.isEmpty)
    }

    @Test(
        arguments: [
            (0x800, 4096, "gpa"), (0x1000, 0, "size"), (0x1000, 100, "size"), (0x180_0000, 4096, "gpa"),
            (0x17F_F000, 8192, "gpa"), (0xFFFF_F000, 8192, "gpa"), (1 << 52, 4096, "gpa"),
        ] as [(UInt64, UInt64, String)])
    func `bad input is named and changes nothing`(start: UInt64, size: UInt64, field: String) throws {
        let bench = TestBench()
        let (memory, _) = try bench.makeMemory()
        bench.journal.reset()
        let bad = GuestPhysicalRange(start: GuestPhysicalAddress(start), size: ByteCount(size))
        do {
            try memory.convert(bad, to: .private)
            Issue.record("\(bad) was accepted")
        } catch {
            guard case .invalid(.invalid(let name, _, _)) = error else {
                Issue.record("\(error)")
                return
            }
            #expect(name == field)
        }
        #expect(bench.journal.calls.isEmpty)
        #expect(memory.counts()[.shared].bytes == memory.size)
    }

    @Test func `cancelling leaves the chunks that are done`() throws {
        let bench = TestBench()
        let (memory, machine) = try bench.makeMemory()
        var asked = 0
        let all = TestBench.regions[0]
        #expect {
            try memory.convert(all, to: .private, chunk: .mebibytes(2)) {
                asked += 1
                return asked == 4
            }
        } throws: { error in
            guard case .incomplete(let failure)? = error as? ConversionError else { return false }
            return failure.reason == .cancelled && failure.end == GuestPhysicalAddress(0x60_0000)
                && failure.result.changed == .mebibytes(6) && failure.leftover == nil
        }
        #expect(memory.counts()[.private].bytes == .mebibytes(6))
        #expect(try memory.disagreement(with: machine.inner as! PlainMachine) == nil)
    }

    @Test func `interrupted calls are made again`() throws {
        let bench = TestBench()
        let (memory, machine) = try bench.makeMemory()
        try memory.fill(range(0, mebibytes: 2), with: 1)
        bench.journal.reset()
        // attributes, attributes, drop-mappings, resident, punch, resident, punch
        bench.journal.fail(at: 0, with: .interrupted)
        bench.journal.fail(at: 4, with: .resourceTemporarilyUnavailable)
        #expect(try memory.convert(range(0, mebibytes: 2), to: .private).discarded == .mebibytes(2))
        #expect(try memory.disagreement(with: machine.inner as! PlainMachine) == nil)
    }

    @Test func `a call that is interrupted for ever is refused in the end`() throws {
        let bench = TestBench()
        let (memory, machine) = try bench.makeMemory()
        bench.journal.fail { $0.name == "attributes" ? .interrupted : nil }
        #expect(throws: ConversionError.self) { try memory.convert(range(0, mebibytes: 2), to: .private) }
        bench.journal.fail(where: nil)
        #expect(memory.counts()[.private] == .zero)
        #expect(try memory.disagreement(with: machine.inner as! PlainMachine) == nil)
    }

    @Test func `refused attributes leave everything as before`() throws {
        let bench = TestBench()
        let (memory, machine) = try bench.makeMemory()
        try memory.convert(range(0x20_0000, pages: 3), to: .private)
        try memory.fill(range(0, mebibytes: 4), with: 9)
        let before = memory.runs()
        bench.journal.fail { $0.name == "attributes" ? .noMemory : nil }
        #expect {
            try memory.convert(range(0, mebibytes: 4), to: .private)
        } throws: { error in
            guard case .incomplete(let failure)? = error as? ConversionError else { return false }
            return failure.end == GuestPhysicalAddress(0) && failure.result == ConversionResult()
        }
        bench.journal.fail(where: nil)
        #expect(memory.runs() == before)
        #expect(try memory.firstByte(GuestPhysicalAddress(0x20_0000)) == 9)
        #expect(try memory.firstByte(GuestPhysicalAddress(0x10_0000)) == 9)
        #expect(try memory.disagreement(with: machine.inner as! PlainMachine) == nil)
    }

    @Test func `a discard that fails in the second shard leaves the first one's part done, exactly`() throws {
        let bench = TestBench()
        let (memory, machine) = try bench.makeMemory()
        // The border of the shards lies at 16 MiB, inside one chunk.
        let range = range(0xE0_0000, mebibytes: 4)
        try memory.fill(range, with: 4)
        bench.journal.fail { $0.description == "punch shared 0 B + 2 MiB" ? .ioError : nil }
        #expect {
            try memory.convert(range, to: .private, chunk: .mebibytes(64))
        } throws: { error in
            guard case .incomplete(let failure)? = error as? ConversionError else { return false }
            return failure.end == GuestPhysicalAddress(0x100_0000) && failure.leftover == nil
                && failure.result.changed == .mebibytes(2) && failure.result.discarded == .mebibytes(2)
        }
        bench.journal.fail(where: nil)
        #expect(try memory.firstByte(GuestPhysicalAddress(0x100_0000)) == 4, "what is not done keeps its contents")
        #expect(try memory.disagreement(with: machine.inner as! PlainMachine) == nil)
    }

    @Test func `where even the way back is refused, the leftover is named and the map follows the kernel`() throws {
        let bench = TestBench()
        let (memory, machine) = try bench.makeMemory()
        let range = range(0xE0_0000, mebibytes: 4)
        try memory.fill(range, with: 4)
        bench.journal.fail { call in
            if call.description == "punch shared 0 B + 2 MiB" { return .ioError }
            return call.name == "attributes" && call.detail.hasSuffix("shared") ? .noMemory : nil
        }
        let leftover = GuestPhysicalRange(start: GuestPhysicalAddress(0x100_0000), size: .mebibytes(2))
        #expect {
            try memory.convert(range, to: .private)
        } throws: { error in
            guard case .incomplete(let failure)? = error as? ConversionError else { return false }
            return failure.end == range.end && failure.leftover == leftover
        }
        bench.journal.fail(where: nil)
        #expect(memory.counts()[.private].bytes == .mebibytes(4))
        #expect(try memory.residency(of: leftover).shared == .mebibytes(2))
        let kernel = machine.inner as! PlainMachine
        #expect(kernel.attributes(of: range).allSatisfy { $0 })
    }
}

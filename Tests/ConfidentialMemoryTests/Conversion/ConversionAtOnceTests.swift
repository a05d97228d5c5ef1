import KVM
import MemoryUnits
import Synchronization
import SystemPackage
import Testing

@testable import ConfidentialMemory

/// What a thread that may wait for nobody converts, and what it leaves alone.
@Suite struct ConversionAtOnceTests {
    @Test(arguments: [MemorySides.apart, .inPlace])
    func `a block of which nothing is resident is converted like any other`(sides: MemorySides) throws {
        let (memory, _) = try TestBench().makeMemory(sides)
        let block = range(0x20_0000, mebibytes: 2)
        for side in [MemorySide.private, .shared, .private] {
            let result = try memory.convertAtOnce(block, to: side)
            #expect(result?.changed == .mebibytes(2) && result?.discarded == .zero, "\(String(describing: result))")
            #expect(memory.attributes.withLock { $0[block.start.frame] } == side.settled)
        }
        #expect(memory.observer.records().count == 3)
        // Of what is there already nothing is changed, and that is a success, too.
        #expect(try memory.convertAtOnce(block, to: .private)?.changed == .zero)
    }

    @Test func `what takes longer is left to others, and nothing is changed`() throws {
        let bench = TestBench()
        let (memory, _) = try bench.makeMemory()
        try memory.fill(range(0x20_0000, pages: 1), with: 1)
        bench.journal.reset()
        #expect(try memory.convertAtOnce(range(0x20_0000, mebibytes: 2), to: .private) == nil, "a page is resident")
        #expect(try memory.convertAtOnce(range(0x40_0000, mebibytes: 3), to: .private) == nil, "it is long")
        let id = memory.listeners.add(name: "device", milliseconds: 60_000) { $0.answer(true) }
        #expect(try memory.convertAtOnce(range(0x40_0000, mebibytes: 2), to: .private) == nil, "somebody listens")
        memory.listeners.remove(id)
        bench.journal.fail { $0.name == "resident" ? .ioError : nil }
        #expect(try memory.convertAtOnce(range(0x40_0000, mebibytes: 2), to: .private) == nil, "nobody could count")
        bench.journal.fail { _ in nil }
        #expect(bench.journal.names.allSatisfy { $0 == "resident" }, "\(bench.journal.names)")
        #expect(memory.counts().pages[0] == memory.counts().total.rawValue, "all is shared still")
        #expect(try memory.convertAtOnce(range(0x40_0000, mebibytes: 2), to: .private)?.changed == .mebibytes(2))
    }

    @Test func `nothing is waited for while another conversion is under way`() throws {
        let (memory, _) = try TestBench().makeMemory()
        let seen = Mutex<[ConversionResult?]>([])
        try memory.convert(
            range(0, mebibytes: 2), to: .private,
            progress: { _ in
                seen.withLock { $0.append(try? memory.convertAtOnce(range(0x40_0000, mebibytes: 2), to: .private)) }
            })
        #expect(seen.withLock { $0 } == [nil])
        #expect(memory.attributes.withLock { $0[GuestFrameNumber(0x400)] } == .shared)
    }

    @Test func `bad input and a kernel that refuses are told as by any conversion`() throws {
        let bench = TestBench()
        let (memory, _) = try bench.makeMemory()
        for bad in [
            range(0x180_0000, mebibytes: 2), GuestPhysicalRange(start: GuestPhysicalAddress(1), size: .kibibytes(4)),
        ] {
            let expected = #expect(throws: ConversionError.self) { try memory.convert(bad, to: .private) }
            let error = #expect(throws: ConversionError.self) { try memory.convertAtOnce(bad, to: .private) }
            #expect("\(String(describing: error))" == "\(String(describing: expected))")
        }
        bench.journal.fail { $0.name == "attributes" ? .ioError : nil }
        let block = range(0x40_0000, mebibytes: 2)
        let error = #expect(throws: ConversionError.self) { try memory.convertAtOnce(block, to: .private) }
        guard case .incomplete(let failure)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(failure.end == block.start && failure.leftover == nil)
        #expect(memory.attributes.withLock { $0[block.start.frame] } == .shared)
    }
}

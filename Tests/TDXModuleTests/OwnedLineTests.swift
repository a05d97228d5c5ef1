import MemoryUnits
import TDXModule
import TDXStatusCodes
import Testing

@Suite struct `Lines of memory` {
    /// A trust domain with one added page at GPA 0, over memory with or without the erratum.
    func prepared(erratum: Bool) throws -> (OwnedLineMemory, TDXModule, page: HostPhysicalAddress) {
        let platform = PlatformDescription(memory: .gibibytes(1), packages: 1)
        let base = SimulatedMemory()
        let memory = OwnedLineMemory(over: base, platform: platform, hasPartialWriteErratum: erratum)
        let module = try TDXModule(platform: platform, memory: memory, seed: 1)
        #expect(module.bringUp() == .success)
        memory.onPoison { module.faults.poison($0) }
        let tdr = platform.convertibleMemory[0].start
        var registers = Registers(.mngCreate, rcx: tdr.rawValue, rdx: 33)
        #expect(module.seamcall(&registers, on: LogicalProcessorID(0)) == .success)
        return (memory, module, tdr)
    }

    @Test func `that the module wrote with a private key read as zeros to the host`() throws {
        let (memory, _, page) = try prepared(erratum: true)
        #expect(memory.ownedLines == 64)
        #expect(try memory.hostRead(page, count: 4096) == [UInt8](repeating: 0, count: 4096))
        memory.hostWrite([UInt8](repeating: 7, count: 64), at: page + ByteCount(128))
        #expect(memory.ownedLines == 63)
        #expect(try memory.hostRead(page + ByteCount(120), count: 10) == [0, 0, 0, 0, 0, 0, 0, 0, 7, 7])
    }

    @Test func `are poisoned by a small write where the part has the erratum, until they are reset`() throws {
        let (memory, _, page) = try prepared(erratum: true)
        memory.hostWrite([1, 2, 3], at: page + ByteCount(70))
        #expect(memory.poisonedLines == 1)
        #expect(throws: MachineCheck(line: page + ByteCount(64))) {
            try memory.hostRead(page + ByteCount(100), count: 1)
        }
        #expect(try memory.hostRead(page, count: 64) == [UInt8](repeating: 0, count: 64))
        memory.hostReset(page)
        #expect(memory.poisonedLines == 0 && memory.ownedLines == 0)
        memory.hostWrite([9], at: page + ByteCount(70))
        #expect(try memory.hostRead(page + ByteCount(69), count: 3) == [0, 9, 0])
    }

    @Test func `simply become the host's where it has not`() throws {
        let (memory, _, page) = try prepared(erratum: false)
        memory.hostWrite([5], at: page)
        #expect(memory.poisonedLines == 0 && memory.ownedLines == 63)
        #expect(try memory.hostRead(page, count: 2) == [5, 0])
    }
}

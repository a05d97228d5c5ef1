import LinuxSystem
import MemoryUnits
import Testing

@testable import KVM

/// What stands in for the kernel writes struct kvm_run as the kernel does: the library's own reader reads it back.
struct RunPageTests {
    private let memory: FileMapping
    private let page: RunPage
    private let reader: RunArea

    init() throws {
        memory = try MemoryFile(name: "run", size: .kibibytes(12)).map(length: .kibibytes(12))
        page = try #require(RunPage(baseAddress: memory.baseAddress, size: 12288))
        reader = RunArea(baseAddress: memory.baseAddress, size: 12288)
    }

    @Test func `every exit is read as it was written`() {
        let exits: [VCPUExit] = [
            .io(isWrite: true, size: 2, port: 0x3F8, data: [1, 2]), .halt, .shutdown,
            .mmio(isWrite: true, address: .init(0xFEC0_0000), data: [1, 2, 3, 4]),
            .mmio(isWrite: false, address: .init(0xFEC0_0000), data: [0, 0, 0, 0, 0, 0, 0, 0]),
            .hypercall(number: 12, arguments: [0x1000, 2, 0x10, 0, 0, 0]),
            .memoryFault(isPrivate: true, address: .init(0x7000), size: .kibibytes(4)),
            .systemEvent(type: 7, data: (0..<16).map { UInt64($0) }), .internalError(subcode: 4, data: [1, 2]),
            .tdx(.getTDVMCallInfo(leaf: 1)), .tdx(.getQuote(buffer: .init(0x7000), size: 8192)),
            .tdx(.setupEventNotify(vector: 32)), .tdx(.other(number: 0x99, flags: 5)),
            .failedEntry(reason: 0x8000_0021),
            .other(reason: 4242),
        ]
        for exit in exits {
            page.store(exit)
            #expect(reader.exit() == exit)
        }
        withExtendedLifetime(memory) {}
    }

    @Test func `answers are read from where a VMM writes them, and unwritten ones are the kernel's presets`() {
        page.store(.hypercall(number: 12, arguments: [0, 1, 0]))
        #expect(page.hypercallResult == 0)
        reader.completeHypercall(11)
        #expect(page.hypercallResult == 11)

        page.store(.tdx(.getQuote(buffer: .init(0x7000), size: 8192)))
        #expect(page.tdxAnswer.status == .subfunctionUnsupported)
        reader.completeTDX(TDXAnswer(.success))
        #expect(page.tdxAnswer.status == .success)
        page.store(.tdx(.getTDVMCallInfo(leaf: 1)))
        #expect(page.tdxAnswer == TDXAnswer(.success))
        reader.completeTDX(TDXAnswer(.success, r11: 2, r12: 3, r13: 4, r14: 5))
        #expect(page.tdxAnswer == TDXAnswer(.success, r11: 2, r12: 3, r13: 4, r14: 5))

        let input = VCPUExit.io(isWrite: false, size: 4, port: 0x3F8, data: [0, 0, 0, 0])
        page.store(input)
        reader.completeInput([1, 2, 3, 4])
        #expect(page.input(for: input) == [1, 2, 3, 4])
        let device = VCPUExit.mmio(isWrite: false, address: .init(0xA000), data: [0, 0])
        page.store(device)
        reader.completeInput([9, 8])
        #expect(page.input(for: device) == [9, 8])
        #expect(page.input(for: .halt).isEmpty)
        withExtendedLifetime(memory) {}
    }

    @Test func `immediate_exit is the VMM's byte, and a page that is too small is refused`() {
        #expect(!page.immediateExit)
        memory.baseAddress.storeBytes(of: 1, toByteOffset: 1, as: UInt8.self)
        #expect(page.immediateExit)
        #expect(RunPage(baseAddress: memory.baseAddress, size: 4096) == nil)
    }
}

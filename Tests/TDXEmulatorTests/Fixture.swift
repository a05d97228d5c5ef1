import KVM
import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing

@testable import TDXEmulator

/// A kind of host that the tests run on, when this machine can be one.
enum TestHost: String, CaseIterable, CustomTestStringConvertible, Sendable {
    case memfd
    case guestMemfd = "guest-memfd"
    case softwareProtected = "software-protected"

    var testDescription: String { rawValue }

    static let kernel: (any KVMSystem)? = try? KernelKVMSystem()

    /// What this machine can be: memfds always; a type-0 VM needs guest_memfd with MMAP and INIT_SHARED, a type-1 VM a
    /// kernel that offers it.
    static let available: [TestHost] = {
        var hosts: [TestHost] = [.memfd]
        guard let kernel else { return hosts }
        if (try? kernel.check(.guestMemfdFlags)) == 3 { hosts.append(.guestMemfd) }
        if ((try? kernel.check(.vmTypes)) ?? 0) & 2 != 0 { hosts.append(.softwareProtected) }
        return hosts
    }()

    var host: EmulatedHost {
        switch self {
        case .memfd: .memfd
        case .guestMemfd: .guestMemfd(Self.kernel!)
        case .softwareProtected: .softwareProtected(Self.kernel!)
        }
    }
}

/// A TD with one guest memory file in slot 0 from guest-physical 0 on, its shared side in a memfd.
final class TestTD {
    let system: EmulatedKVMSystem
    let vm: EmulatedVirtualMachine
    var vcpus: [EmulatedVirtualCPU] = []
    let memory: EmulatedGuestMemory
    let shared: FileMapping
    let size: ByteCount

    static func parameters(_ change: (inout TDXInitialization) -> Void = { _ in }) -> TDXInitialization {
        var parameters = TDXInitialization(
            attributes: 0, xfam: 0x3, mrConfigID: .init(repeating: 1, count: 48),
            mrOwner: .init(repeating: 2, count: 48), mrOwnerConfig: .init(repeating: 3, count: 48),
            cpuid: [CPUIDEntry(function: 0x8000_0008, eax: 48 << 16)])
        change(&parameters)
        return parameters
    }

    /// An initialised TD, all of whose memory is private.
    init(
        _ host: TestHost, size: ByteCount = .mebibytes(4), vcpus count: UInt32 = 1,
        configure: (inout EmulatorConfiguration) -> Void = { _ in },
        parameters: TDXInitialization = TestTD.parameters()
    ) throws {
        var configuration = EmulatorConfiguration(host: host.host, memory: .gibibytes(64))
        configure(&configuration)
        self.size = size
        system = try EmulatedKVMSystem(configuration)
        vm = try system.createTrustDomainVM()
        try vm.enable(.splitIRQChip, [24])
        try vm.enable(.exitHypercall, [1 << 12])
        try vm.tdxInitialize(parameters)
        for id in 0..<count {
            let vcpu = try vm.createVCPU(id: id) as! EmulatedVirtualCPU
            try vcpu.initialize(parameters, initialRCX: 0x1234)
            vcpus.append(vcpu)
        }
        memory = try vm.createGuestMemory(size: size, flags: []) as! EmulatedGuestMemory
        let file = try MemoryFile(name: "shared", size: size)
        shared = try file.map(length: size)
        try vm.setMemorySlot(slot())
        try vm.setMemoryAttributes(whole, isPrivate: true)
    }

    var whole: GuestPhysicalRange { range(0, size.rawValue) }
    var wholeFile: FileRange { FileRange(offset: .zero, length: size) }

    func slot(id: UInt32 = 0) -> MemorySlot {
        MemorySlot(
            id: id, range: whole, userspaceAddress: UInt(bitPattern: shared.baseAddress), guestMemory: memory)
    }

    func range(_ start: UInt64, _ size: UInt64) -> GuestPhysicalRange {
        GuestPhysicalRange(start: GuestPhysicalAddress(start), size: ByteCount(size))
    }

    /// Adds whole pages by INIT_MEM_REGION.
    func add(_ bytes: [UInt8], at address: UInt64, measured: Bool = true) throws {
        let buffer = PageBuffer(bytes)
        try vcpus[0].tdxInitializeMemory(
            from: buffer.bytes, at: GuestPhysicalAddress(address), measured: measured, progress: { _ in })
    }

    /// Pages of the file that are present; nil where the kernel was built without cachestat(2).
    func resident() throws -> PageCount? {
        do throws(KVMError) { return try memory.residentBytes(wholeFile).pages } catch {
            guard error.errno == .noFunction else { throw error }
            return nil
        }
    }

    func expectResident(_ pages: PageCount, location: SourceLocation = #_sourceLocation) throws {
        if let resident = try resident() { #expect(resident == pages, sourceLocation: location) }
    }

    /// The file's real bytes: through a second descriptor, or by a vCPU's copying where the host cannot map them.
    func contents(_ offset: Int, _ count: Int) throws -> [UInt8] {
        if !vm.machine.backing.isHostWritable {
            var bytes: [UInt8] = []
            let page = UnsafeMutableRawBufferPointer.allocate(byteCount: 4096, alignment: 4096)
            defer { page.deallocate() }
            for start in stride(from: offset / 4096 * 4096, to: offset + count, by: 4096) {
                try vm.machine.backing.copyPrivatePage(.fetch, GuestPhysicalAddress(UInt64(start)), page)
                bytes += page
            }
            return Array(bytes[offset % 4096..<offset % 4096 + count])
        }
        let descriptor = try memory.duplicateDescriptor()
        let mapping = try FileMapping(descriptor: descriptor.rawValue, size: size)
        defer { mapping.unmap() }
        return Array(UnsafeRawBufferPointer(start: mapping.baseAddress + offset, count: count))
    }

    /// Drops every reference, the VM's last.
    func close() {
        memory.close()
        vcpus.forEach { $0.close() }
        vm.close()
    }

    /// The key is free, no frame is handed out, nothing is left behind.
    func expectNothingLeft(location: SourceLocation = #_sourceLocation) {
        let inspection = vm.inspection
        #expect(inspection.isDestroyed, sourceLocation: location)
        #expect(inspection.keyState == "FREE", sourceLocation: location)
        #expect(inspection.privatePages == .zero, sourceLocation: location)
        #expect(inspection.controlPages == .zero, sourceLocation: location)
        #expect(inspection.leakedPages == .zero, sourceLocation: location)
        #expect(inspection.bug == nil, sourceLocation: location)
        #expect(system.freeKeyIDs == 1, sourceLocation: location)
        #expect(system.framesInUse.controlPages == 0, sourceLocation: location)
        #expect(system.framesInUse.fileChunks == 0, sourceLocation: location)
    }
}

extension KVMVirtualCPU {
    /// KVM_SET_CPUID2 with what a TD's vCPU needs, then KVM_TDX_INIT_VCPU.
    func initialize(_ parameters: TDXInitialization = TestTD.parameters(), initialRCX: UInt64 = 0) throws(KVMError) {
        let width = parameters.cpuid.first { $0.function == 0x8000_0008 }.map { $0.eax >> 16 & 0xFF } ?? 48
        try setCPUID(TrustDomainCPUID.ofVCPU(told: [], guestAddressBits: width))
        try tdxInitialize(initialRCX: initialRCX)
    }
}

/// Page-aligned bytes, filled up with zeros to whole pages.
final class PageBuffer {
    private let storage: UnsafeMutableRawBufferPointer
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(storage) }

    init(_ contents: [UInt8]) {
        let size = (contents.count + 4095) / 4096 * 4096
        storage = .allocate(byteCount: size, alignment: 4096)
        storage.initializeMemory(as: UInt8.self, repeating: 0)
        storage.copyBytes(from: contents)
    }

    deinit { storage.deallocate() }
}

/// Expects a refusal with this errno.
func expectErrno(
    _ errno: Errno, location: SourceLocation = #_sourceLocation, _ body: () throws -> Void
) {
    do {
        try body()
        Issue.record("succeeded, expected \(errno)", sourceLocation: location)
    } catch let error as KVMError {
        #expect(error.errno == errno, "\(error)", sourceLocation: location)
    } catch {
        Issue.record("\(error)", sourceLocation: location)
    }
}

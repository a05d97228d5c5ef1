import KVM
import LinuxSystem
import MemoryUnits
import SystemPackage
import Testing

/// What the machine that runs the tests offers; read once.
enum Machine {
    static let system: KernelKVMSystem? = try? KernelKVMSystem()
    static let hasKVM = system != nil

    static let types: [VMType] = [.default, .softwareProtected].filter(offers)
    static let hasGuestMemfd = capability(.guestMemfd) > 0
    static let hasTDX = offers(.tdx)
    /// Real private and shared memory.
    static let hasAttributes = offers(.softwareProtected)
    static let hasPreFault = capability(.preFaultMemory) > 0
    static let numaNodes = (try? TextFile.list("/sys/devices/system/node"))?.count { $0.hasPrefix("node") } ?? 1

    /// Guest page tables are the processor's (EPT or NPT); without them KVM emulates and shadows.
    static let hasTwoDimensionalPaging =
        ["kvm_intel/parameters/ept", "kvm_amd/parameters/npt"].contains {
            (try? TextFile.read("/sys/module/\($0)"))?.first.map { "Y1".contains($0) } ?? false
        }

    /// cachestat(2), which a kernel may be built without.
    static let hasCachestat = PlatformFacts.read().cachestat.value == true

    /// A processor emulated in software, as QEMU's: everything takes many times as long.
    static let isSlow = ((try? ProcessorInformation.ofHost())?.model ?? "").contains("QEMU TCG")

    /// A C compiler; Swift brings one.
    static let compiler =
        ((try? TextFile.read("/proc/self/environ")) ?? "").split(separator: "\0").first { $0.hasPrefix("PATH=") }
        .map { $0.dropFirst(5).split(separator: ":").map { "\($0)" } }.map { $0 + ["/usr/bin", "/opt/swift/usr/bin"] }?
        .flatMap { ["\($0)/clang", "\($0)/cc"] }.first { (try? FileStatus(ofPath: $0)) != nil }

    static let perl = "/usr/bin/perl"
    static let hasPerl = (try? FileStatus(ofPath: perl)) != nil

    static let isAMD = ((try? ProcessorInformation.ofHost())?.vendor ?? "") == "AuthenticAMD"

    static func offers(_ type: VMType) -> Bool { capability(.vmTypes) >> type.rawValue & 1 == 1 }

    static func capability(_ capability: KVMCapability) -> Int { (try? system?.check(capability)) ?? 0 }

    static func createVM(_ type: VMType = .default) throws -> KernelVirtualMachine {
        try #require(system).createKernelVirtualMachine(type)
    }
}

/// A VM type with flags that its guest_memfds take.
struct GuestMemoryKind: CustomTestStringConvertible, Sendable {
    var type: VMType
    var flags: GuestMemoryFlags

    var testDescription: String { "VM type \(type.rawValue), guest_memfd flags \(flags.rawValue)" }

    /// Every kind that this machine offers, out of no flags, MMAP, and MMAP with INIT_SHARED.
    static let all: [Self] = Machine.types.flatMap { type -> [Self] in
        guard let vm = try? Machine.createVM(type), let supported = try? vm.check(.guestMemfdFlags) else { return [] }
        return [[], [.mmap], [.mmap, .initShared]].map { GuestMemoryFlags($0) }
            .filter { $0.isSubset(of: GuestMemoryFlags(rawValue: UInt64(supported))) }
            .map { Self(type: type, flags: $0) }
    }

    static func all(with flags: GuestMemoryFlags) -> [Self] { all.filter { $0.flags == flags } }

    func create(_ size: ByteCount) throws -> (vm: KernelVirtualMachine, memory: KernelGuestMemory) {
        let vm = try Machine.createVM(type)
        return (vm, try vm.createKernelGuestMemory(size: size, flags: flags))
    }

    /// The same with every page allocated.
    func filled(_ size: ByteCount) throws -> (vm: KernelVirtualMachine, memory: KernelGuestMemory) {
        let (vm, memory) = try create(size)
        try memory.allocate(FileRange(0, size.rawValue))
        return (vm, memory)
    }
}

/// Expects a refusal with one of the errnos.
func expectRefusal(
    _ errnos: Errno..., sourceLocation: SourceLocation = #_sourceLocation, _ call: () throws -> Void
) {
    do {
        try call()
        Issue.record("expected \(errnos.map(\.name)), but it succeeded", sourceLocation: sourceLocation)
    } catch {
        let errno = (error as? KVMError)?.errno ?? (error as? LinuxError)?.errno
        #expect(errnos.contains { $0 == errno }, "\(error)", sourceLocation: sourceLocation)
    }
}

extension FileRange {
    init(_ offset: UInt64, _ length: UInt64) {
        self.init(offset: ByteCount(offset), length: ByteCount(length))
    }
}

extension MappedMemory {
    func fill(_ value: UInt8, _ offset: UInt64 = 0, _ length: UInt64? = nil) {
        let length = length ?? size.rawValue - offset
        UnsafeMutableRawBufferPointer(start: baseAddress + Int(offset), count: Int(length))
            .initializeMemory(as: UInt8.self, repeating: value)
    }

    /// Whether every byte of a part has the value.
    func holds(_ value: UInt8, _ offset: UInt64 = 0, _ length: UInt64? = nil) -> Bool {
        let length = length ?? size.rawValue - offset
        return UnsafeRawBufferPointer(start: baseAddress + Int(offset), count: Int(length)).allSatisfy { $0 == value }
    }

    func store(_ bytes: [UInt8], at offset: Int) {
        bytes.withUnsafeBytes { (baseAddress + offset).copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    }
}

/// Expects so many bytes of a range to be present, where the kernel can tell.
func expectResident(
    _ memory: KernelGuestMemory, _ range: FileRange, _ bytes: UInt64, sourceLocation: SourceLocation = #_sourceLocation
) throws {
    guard Machine.hasCachestat else { return }
    #expect(try memory.residentBytes(range) == ByteCount(bytes), sourceLocation: sourceLocation)
}

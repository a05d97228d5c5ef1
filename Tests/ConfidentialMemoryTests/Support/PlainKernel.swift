import FirmwareImage
import KVM
import LinuxSystem
import MemoryUnits
import Synchronization
import SystemPackage
import TDXStatusCodes

@testable import ConfidentialMemory

/// What a kernel holds for its users: everything must be back at zero in the end.
final class KernelLedger: Sendable {
    struct Counts: Equatable {
        var machines = 0
        var vcpus = 0
        var files = 0
        var mappings = 0
        var keys = 0
    }

    private let counts = Mutex(Counts())
    var held: Counts { counts.withLock { $0 } }
    func change(_ path: any WritableKeyPath<Counts, Int> & Sendable, by amount: Int) {
        counts.withLock { $0[keyPath: path] += amount }
    }
}

/// The plainest kernel with TDs: it keeps KVM's rules of order and the attributes of every page, and its guest_memfds are
/// memfds. It knows no module and no page tables.
final class PlainKernel: KVMSystem {
    struct Traits: Sendable {
        enum Terminate: Sendable { case announced, unannounced, absent }
        var terminate = Terminate.absent
        /// How often KVM_TDX_TERMINATE_VM says EBUSY first.
        var busyTerminations = 0
        var maximumVCPUs = 8
        var keys = 1
        /// KVM_CAP_PRE_FAULT_MEMORY
        var preFaults = true
    }

    let ledger = KernelLedger()
    let traits: Traits

    init(_ traits: Traits = Traits()) { self.traits = traits }

    func apiVersion() -> Int { 12 }
    func check(_ capability: KVMCapability) -> Int { capability == .vmTypes ? 1 << 5 : 1 }
    func createVirtualMachine(_ type: VMType) throws(KVMError) -> any KVMVirtualMachine {
        PlainMachine(type, ledger, traits)
    }
}

/// Whether something is open; closing twice counts once.
final class OpenFlag: Sendable {
    private let isOpen = Mutex(true)
    var open: Bool { isOpen.withLock { $0 } }
    func close() -> Bool {
        isOpen.withLock { isOpen in
            defer { isOpen = false }
            return isOpen
        }
    }
}

/// The VM object, which its machine, vCPUs and guest_memfds keep alive; the key id goes with it.
private final class VMObject: Sendable {
    let ledger: KernelLedger
    let hasKey = Mutex(false)
    init(_ ledger: KernelLedger) { self.ledger = ledger }
    func dropKey() {
        let had = hasKey.withLock { hasKey in
            defer { hasKey = false }
            return hasKey
        }
        if had { ledger.change(\.keys, by: -1) }
    }
    deinit { dropKey() }
}

final class PlainMachine: KVMVirtualMachine {
    private struct State {
        var isDead = false
        var isInitialized = false
        var isFinalized = false
        var hasSplitIRQChip = false
        var vcpus: Set<UInt32> = []
        var slots: [UInt32: MemorySlot] = [:]
        var busyTerminations: Int
        /// By page number; true is private. Covers 8 GiB.
        var attributes = [Bool](repeating: false, count: 1 << 21)
    }

    let type: VMType
    private let object: Mutex<VMObject?>
    private let ledger: KernelLedger
    private let traits: PlainKernel.Traits
    private let flag = OpenFlag()
    private let state: Mutex<State>

    init(_ type: VMType, _ ledger: KernelLedger, _ traits: PlainKernel.Traits) {
        self.type = type
        self.ledger = ledger
        self.traits = traits
        object = Mutex(VMObject(ledger))
        state = Mutex(State(busyTerminations: traits.busyTerminations))
        ledger.change(\.machines, by: 1)
    }

    private func alive(_ operation: String) throws(KVMError) {
        guard flag.open else { throw KVMError(operation, .badFileDescriptor) }
        if state.withLock({ $0.isDead }) { throw KVMError(operation, .ioError) }
    }

    func check(_ capability: KVMCapability) throws(KVMError) -> Int {
        try alive("KVM_CHECK_EXTENSION")
        switch capability {
        case .maximumVCPUs: return traits.maximumVCPUs
        case .exitHypercall: return 0x1000
        case .preFaultMemory: return traits.preFaults ? 1 : 0
        default: return 0
        }
    }

    func enable(_ capability: KVMCapability, _ arguments: [UInt64]) throws(KVMError) {
        try alive("KVM_ENABLE_CAP")
        if capability == .splitIRQChip { state.withLock { $0.hasSplitIRQChip = true } }
    }

    func createGuestMemory(size: ByteCount, flags: GuestMemoryFlags) throws(KVMError) -> any KVMGuestMemory {
        try alive("KVM_CREATE_GUEST_MEMFD")
        return PlainFile(
            try memoryFile("plain-gmem", size), ledger, keeping: object.withLock { $0 },
            isMappable: flags.contains(.mmap))
    }

    func setMemorySlot(_ slot: MemorySlot) throws(KVMError) {
        try alive("KVM_SET_USER_MEMORY_REGION2")
        let overlaps = state.withLock { state in
            if state.slots.values.contains(where: { $0.range.overlaps(slot.range) }) { return true }
            state.slots[slot.id] = slot
            return false
        }
        if overlaps { throw KVMError("KVM_SET_USER_MEMORY_REGION2", .fileExists) }
    }

    func deleteMemorySlot(_ id: UInt32) throws(KVMError) {
        try alive("KVM_SET_USER_MEMORY_REGION2")
        if state.withLock({ $0.slots.removeValue(forKey: id) }) == nil {
            throw KVMError("KVM_SET_USER_MEMORY_REGION2", .invalidArgument)
        }
    }

    func setMemoryAttributes(_ range: GuestPhysicalRange, isPrivate: Bool) throws(KVMError) {
        try alive("KVM_SET_MEMORY_ATTRIBUTES")
        let (first, count) = (Int(range.start.frame.rawValue), Int(range.size.pages.rawValue))
        state.withLock { state in
            state.attributes.withUnsafeMutableBufferPointer { pages in
                (pages.baseAddress! + first).update(repeating: isPrivate, count: count)
            }
        }
    }

    func createVCPU(id: UInt32) throws(KVMError) -> any KVMVirtualCPU {
        try alive("KVM_CREATE_VCPU")
        let errno: Errno? = state.withLock { state in
            guard state.isInitialized else { return .ioError }
            guard state.hasSplitIRQChip else { return .invalidArgument }
            return state.vcpus.insert(id).inserted ? nil : .fileExists
        }
        if let errno { throw KVMError("KVM_CREATE_VCPU", errno) }
        return PlainVCPU(id, self, ledger, keeping: object.withLock { $0 })
    }

    func setTSCFrequency(kilohertz: UInt32) throws(KVMError) {}
    func tdxCapabilities() throws(KVMError) -> TDXCapabilities {
        try alive("KVM_TDX_CAPABILITIES")
        return TDXCapabilities(
            supportedAttributes: 1 << 28, supportedXFAM: 0x7, supportedCommands: traits.terminate == .announced ? 1 : 0,
            configurableCPUID: [CPUIDEntry(function: 0x8000_0008, eax: 0xFF_0000)])
    }

    func tdxInitialize(_ parameters: TDXInitialization) throws(KVMError) {
        try alive("KVM_TDX_INIT_VM")
        guard parameters.cpuid.contains(where: { $0.function == 0x8000_0008 && $0.eax >> 16 & 0xFF == 48 }) else {
            throw KVMError("KVM_TDX_INIT_VM", .invalidArgument)
        }
        guard ledger.held.keys < traits.keys else { throw KVMError("KVM_TDX_INIT_VM", .noSpace) }
        ledger.change(\.keys, by: 1)
        object.withLock { $0?.hasKey.withLock { $0 = true } }
        state.withLock { $0.isInitialized = true }
    }

    func tdxFinalize() throws(KVMError) {
        try alive("KVM_TDX_FINALIZE_VM")
        let done = state.withLock { state in
            guard state.isInitialized, !state.isFinalized else { return false }
            state.isFinalized = true
            return true
        }
        if !done { throw KVMError("KVM_TDX_FINALIZE_VM", .invalidArgument) }
    }

    func tdxTerminate() throws(KVMError) {
        guard traits.terminate != .absent else { throw KVMError("KVM_TDX_TERMINATE_VM", .invalidArgument) }
        try alive("KVM_TDX_TERMINATE_VM")
        let isBusy = state.withLock { state in
            guard state.busyTerminations == 0 else {
                state.busyTerminations -= 1
                return true
            }
            state.isDead = true
            return false
        }
        if isBusy { throw KVMError("KVM_TDX_TERMINATE_VM", .resourceBusy) }
        object.withLock { $0?.dropKey() }
    }

    func close() {
        guard flag.close() else { return }
        ledger.change(\.machines, by: -1)
        state.withLock { $0.slots = [:] }
        object.withLock { $0 = nil }
    }

    // MARK: What tests look at

    /// What KVM would do with an access: the attribute of every page of a range.
    func attributes(of range: GuestPhysicalRange) -> [Bool] {
        let first = Int(range.start.frame.rawValue)
        return state.withLock { Array($0.attributes[first..<first + Int(range.size.pages.rawValue)]) }
    }

    /// KVM_PRE_FAULT_MEMORY: pages that a slot has get memory, as a fault of the guest would give it.
    fileprivate func preFault(_ range: GuestPhysicalRange) throws(KVMError) {
        let name = "KVM_PRE_FAULT_MEMORY"
        try alive(name)
        let (slots, isFinalized) = state.withLock { ($0.slots.values, $0.isFinalized) }
        guard traits.preFaults, isFinalized else { throw KVMError(name, .notSupportedOnSocket) }
        guard attributes(of: range).allSatisfy({ $0 }) else { throw KVMError(name, .badAddress) }
        var left = range.size
        for slot in slots {
            guard let part = slot.range.intersection(range), let file = slot.guestMemory as? PlainFile else { continue }
            try file.allocate(
                FileRange(offset: slot.guestMemoryOffset + (part.start - slot.range.start), length: part.size))
            left = left - part.size
        }
        guard left == .zero else { throw KVMError(name, .noSuchFileOrDirectory) }
    }

    /// KVM_TDX_INIT_MEM_REGION for one page.
    fileprivate func add(_ page: UnsafeRawBufferPointer, at address: GuestPhysicalAddress) throws(KVMError) {
        try alive("KVM_TDX_INIT_MEM_REGION")
        let (slot, isPrivate, isOpen) = state.withLock { state in
            (
                state.slots.values.first { $0.range.contains(address) },
                state.attributes[Int(address.frame.rawValue)], state.isInitialized && !state.isFinalized
            )
        }
        guard let slot, let file = slot.guestMemory as? PlainFile, isPrivate, isOpen else {
            throw KVMError("KVM_TDX_INIT_MEM_REGION", .invalidArgument)
        }
        try file.write(page, at: slot.guestMemoryOffset + (address - slot.range.start))
    }
}

final class PlainVCPU: KVMVirtualCPU {
    let id: UInt32
    private let machine: PlainMachine
    private let ledger: KernelLedger
    private let object: Mutex<VMObject?>
    private let flag = OpenFlag()

    fileprivate init(_ id: UInt32, _ machine: PlainMachine, _ ledger: KernelLedger, keeping object: VMObject?) {
        self.id = id
        self.machine = machine
        self.ledger = ledger
        self.object = Mutex(object)
        ledger.change(\.vcpus, by: 1)
    }

    func tdxInitialize(initialRCX: UInt64) {}
    func tdxCPUID() throws(KVMError) -> [CPUIDEntry] {
        [CPUIDEntry(function: 0, eax: 1), CPUIDEntry(function: 1, edx: 0x0FFF_FBFF)]
    }
    func completeTDX(_ answer: TDXAnswer) {}
    func setCPUID(_ entries: [CPUIDEntry]) {}
    func tdxInitializeMemory(
        from source: UnsafeRawBufferPointer, at address: GuestPhysicalAddress, measured: Bool,
        progress: (PageCount) -> Void
    ) throws(KVMError) {
        guard UInt(bitPattern: source.baseAddress!) % UInt(pageSize) == 0 else {
            throw KVMError("KVM_TDX_INIT_MEM_REGION", .invalidArgument, detail: "unaligned source")
        }
        for page in 0..<source.count / Int(pageSize) {
            let bytes = UnsafeRawBufferPointer(rebasing: source[page * 4096..<(page + 1) * 4096])
            try machine.add(bytes, at: address + ByteCount(UInt64(page) * pageSize))
            progress(PageCount(UInt64(page + 1)))
        }
    }
    func preFault(_ range: GuestPhysicalRange) throws(KVMError) { try machine.preFault(range) }
    func start(mode: VCPUMode, registers: VCPURegisters) throws(KVMError) {
        throw KVMError("KVM_SET_REGS", .invalidArgument)
    }
    func registers() throws(KVMError) -> VCPURegisters { throw KVMError("KVM_GET_REGS", .invalidArgument) }
    func run() -> VCPUExit { .interrupted }
    func completeInput(_ data: [UInt8]) {}
    func completeHypercall(_ result: UInt64) {}
    func setImmediateExit(_ on: Bool) {}
    func close() {
        guard flag.close() else { return }
        ledger.change(\.vcpus, by: -1)
        object.withLock { $0 = nil }
    }
}

/// A memfd as a backing file of either side.
final class PlainFile: BackingFile {
    private let file: MemoryFile
    private let ledger: KernelLedger
    private let object: Mutex<VMObject?>
    private let isMappable: Bool
    private let flag = OpenFlag()

    fileprivate init(_ file: MemoryFile, _ ledger: KernelLedger, keeping object: VMObject?, isMappable: Bool) {
        self.file = file
        self.ledger = ledger
        self.object = Mutex(object)
        self.isMappable = isMappable
        ledger.change(\.files, by: 1)
    }

    var size: ByteCount { file.size }
    var inode: UInt64 { file.identity.inode }

    func allocate(_ range: FileRange) throws(KVMError) {
        try linux { () throws(LinuxError) in try file.allocate(offset: range.offset, length: range.length) }
    }
    func punchHole(_ range: FileRange) throws(KVMError) {
        try linux { () throws(LinuxError) in try file.punchHole(offset: range.offset, length: range.length) }
    }
    func residentBytes(_ range: FileRange) throws(KVMError) -> ByteCount {
        try linux { () throws(LinuxError) in
            try file.residentBytes(offset: range.offset, length: range.length)
        }
    }
    func map(_ range: FileRange) throws(KVMError) -> any MappedMemory {
        guard isMappable else { throw KVMError("mmap", .operationNotSupportedByDevice) }
        let mapping = try linux { () throws(LinuxError) in
            try file.map(offset: range.offset, length: range.length)
        }
        return PlainMapping(mapping, ledger)
    }
    func duplicateDescriptor() throws(KVMError) -> OwnedDescriptor {
        do { return try file.duplicateDescriptor() } catch { throw KVMError(error) }
    }
    func close() {
        guard flag.close() else { return }
        ledger.change(\.files, by: -1)
        object.withLock { $0 = nil }
        file.close()
    }

    /// What the guest, or the kernel for it, puts into a page.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: ByteCount) throws(KVMError) {
        let view = try linux { () throws(LinuxError) in
            try file.map(offset: offset, length: ByteCount(UInt64(bytes.count)))
        }
        UnsafeMutableRawBufferPointer(start: view.baseAddress, count: bytes.count).copyMemory(from: bytes)
        view.unmap()
    }

    /// What the guest finds in a page.
    func byte(at offset: ByteCount) throws(KVMError) -> UInt8 {
        let view = try linux { () throws(LinuxError) in
            try file.map(offset: offset, length: ByteCount(pageSize), writable: false)
        }
        defer { view.unmap() }
        return view.baseAddress.load(as: UInt8.self)
    }
}

private final class PlainMapping: MappedMemory {
    private let mapping: FileMapping
    private let ledger: KernelLedger
    private let flag = OpenFlag()

    init(_ mapping: FileMapping, _ ledger: KernelLedger) {
        self.mapping = mapping
        self.ledger = ledger
        ledger.change(\.mappings, by: 1)
    }

    var baseAddress: UnsafeMutableRawPointer { mapping.baseAddress }
    var size: ByteCount { mapping.size }
    func dropMappings(offset: ByteCount, length: ByteCount) { mapping.dropMappings(offset: offset, length: length) }
    func unmap() {
        guard flag.close() else { return }
        ledger.change(\.mappings, by: -1)
        mapping.unmap()
    }
}

/// Shared files that a ledger counts.
final class PlainMemoryHost: MemoryHost {
    private let ledger: KernelLedger
    init(_ ledger: KernelLedger) { self.ledger = ledger }

    func createSharedFile(name: String, size: ByteCount) throws(KVMError) -> any BackingFile {
        PlainFile(try memoryFile(name, size), ledger, keeping: nil, isMappable: true)
    }
}

private func memoryFile(_ name: String, _ size: ByteCount) throws(KVMError) -> MemoryFile {
    try linux { () throws(LinuxError) in try MemoryFile(name: name, size: size) }
}

private func linux<Result>(_ call: () throws(LinuxError) -> Result) throws(KVMError) -> Result {
    do { return try call() } catch { throw KVMError(error) }
}

import KVM
import LinuxSystem
import MemoryUnits
import Synchronization
import SystemPackage

@testable import ConfidentialMemory

/// Everything that crossed the seam, in order, and the one place where a failure can be made to happen.
final class CallJournal: Sendable {
    struct Call: Sendable, CustomStringConvertible {
        var name: String
        var detail: String
        /// False for what can only succeed, such as close.
        var canFail: Bool
        var description: String { detail.isEmpty ? name : "\(name) \(detail)" }
    }

    private struct State {
        var calls: [Call] = []
        /// Those that were made to fail.
        var failed: [Call] = []
        var isPaused = false
        var failures: [Int: Errno] = [:]
        var match: (@Sendable (Call) -> Errno?)?
    }

    private let state = Mutex(State())

    var calls: [Call] { state.withLock { $0.calls } }
    var names: [String] { calls.map(\.name) }
    var failed: [Call] { state.withLock { $0.failed } }

    /// Runs `body`, whose calls are neither noted nor made to fail: a test looks around.
    func paused<Result>(_ body: () throws -> Result) rethrows -> Result {
        state.withLock { $0.isPaused = true }
        defer { state.withLock { $0.isPaused = false } }
        return try body()
    }

    func reset() { state.withLock { $0.calls = [] } }

    /// Makes the calls at these positions (from 0, counted since the last reset) fail without being carried out.
    func fail(at positions: Int..., with errno: Errno) {
        state.withLock { state in for position in positions { state.failures[position] = errno } }
    }

    /// Makes every call fail for which `match` names an errno.
    func fail(where match: (@Sendable (Call) -> Errno?)?) { state.withLock { $0.match = match } }

    /// Notes a call that can fail.
    func call(_ name: String, _ detail: String = "") throws(KVMError) {
        let call = Call(name: name, detail: detail, canFail: true)
        let errno: Errno? = state.withLock { state in
            guard !state.isPaused else { return nil }
            state.calls.append(call)
            let errno = state.failures[state.calls.count - 1] ?? state.match?(call)
            if errno != nil { state.failed.append(call) }
            return errno
        }
        if let errno { throw KVMError(name, errno, detail: "made to fail: \(detail)") }
    }

    /// Notes a call that cannot fail.
    func note(_ name: String, _ detail: String = "") {
        state.withLock { state in
            if !state.isPaused { state.calls.append(Call(name: name, detail: detail, canFail: false)) }
        }
    }
}

/// Puts a journal in front of any implementation of the seam.
final class ObservedKernel: KVMSystem {
    private let inner: any KVMSystem
    private let journal: CallJournal

    init(_ inner: any KVMSystem, _ journal: CallJournal) {
        self.inner = inner
        self.journal = journal
    }

    func apiVersion() throws(KVMError) -> Int { try inner.apiVersion() }
    func check(_ capability: KVMCapability) throws(KVMError) -> Int { try inner.check(capability) }
    func createVirtualMachine(_ type: VMType) throws(KVMError) -> any KVMVirtualMachine {
        try journal.call("create-vm")
        return ObservedMachine(try inner.createVirtualMachine(type), journal)
    }
}

final class ObservedMachine: KVMVirtualMachine {
    let inner: any KVMVirtualMachine
    private let journal: CallJournal

    init(_ inner: any KVMVirtualMachine, _ journal: CallJournal) {
        self.inner = inner
        self.journal = journal
    }

    var type: VMType { inner.type }
    func check(_ capability: KVMCapability) throws(KVMError) -> Int {
        try journal.call("check", "\(capability.rawValue)")
        return try inner.check(capability)
    }
    func enable(_ capability: KVMCapability, _ arguments: [UInt64]) throws(KVMError) {
        try journal.call("enable", "\(capability.rawValue)")
        try inner.enable(capability, arguments)
    }
    func createGuestMemory(size: ByteCount, flags: GuestMemoryFlags) throws(KVMError) -> any KVMGuestMemory {
        try journal.call("create-gmem", "\(size)")
        return ObservedFile(try inner.createGuestMemory(size: size, flags: flags), "private", journal)
    }
    func setMemorySlot(_ slot: MemorySlot) throws(KVMError) {
        try journal.call("set-slot", "\(slot.id) \(slot.range)")
        var slot = slot
        if let file = slot.guestMemory as? ObservedFile { slot.guestMemory = file.inner }
        try inner.setMemorySlot(slot)
    }
    func deleteMemorySlot(_ id: UInt32) throws(KVMError) {
        try journal.call("delete-slot", "\(id)")
        try inner.deleteMemorySlot(id)
    }
    func setMemoryAttributes(_ range: GuestPhysicalRange, isPrivate: Bool) throws(KVMError) {
        try journal.call("attributes", "\(range) \(isPrivate ? "private" : "shared")")
        try inner.setMemoryAttributes(range, isPrivate: isPrivate)
    }
    func createVCPU(id: UInt32) throws(KVMError) -> any KVMVirtualCPU {
        try journal.call("create-vcpu", "\(id)")
        return ObservedVCPU(try inner.createVCPU(id: id), journal)
    }
    func tdxCapabilities() throws(KVMError) -> TDXCapabilities {
        try journal.call("capabilities")
        return try inner.tdxCapabilities()
    }
    func tdxInitialize(_ parameters: TDXInitialization) throws(KVMError) {
        try journal.call("init-vm")
        try inner.tdxInitialize(parameters)
    }
    func setTSCFrequency(kilohertz: UInt32) throws(KVMError) {
        try journal.call("tsc-frequency", "\(kilohertz)")
        try inner.setTSCFrequency(kilohertz: kilohertz)
    }
    func tdxFinalize() throws(KVMError) {
        try journal.call("finalize")
        try inner.tdxFinalize()
    }
    func tdxTerminate() throws(KVMError) {
        try journal.call("terminate")
        try inner.tdxTerminate()
    }
    func close() {
        journal.note("close-vm")
        inner.close()
    }
}

final class ObservedVCPU: KVMVirtualCPU {
    private let inner: any KVMVirtualCPU
    private let journal: CallJournal

    init(_ inner: any KVMVirtualCPU, _ journal: CallJournal) {
        self.inner = inner
        self.journal = journal
    }

    var id: UInt32 { inner.id }
    func tdxInitialize(initialRCX: UInt64) throws(KVMError) {
        try journal.call("init-vcpu", "\(id) rcx \(initialRCX)")
        try inner.tdxInitialize(initialRCX: initialRCX)
    }
    func tdxCPUID() throws(KVMError) -> [CPUIDEntry] {
        try journal.call("get-cpuid", "\(id)")
        return try inner.tdxCPUID()
    }
    func setCPUID(_ entries: [CPUIDEntry]) throws(KVMError) {
        try journal.call("cpuid", "\(id)")
        try inner.setCPUID(entries)
    }
    func tdxInitializeMemory(
        from source: UnsafeRawBufferPointer, at address: GuestPhysicalAddress, measured: Bool,
        progress: (PageCount) -> Void
    ) throws(KVMError) {
        try journal.call("init-mem", "\(address) \(source.count) \(measured ? "measured" : "unmeasured")")
        try inner.tdxInitializeMemory(from: source, at: address, measured: measured, progress: progress)
    }
    func preFault(_ range: GuestPhysicalRange) throws(KVMError) {
        try journal.call("pre-fault", "\(range)")
        try inner.preFault(range)
    }
    func start(mode: VCPUMode, registers: VCPURegisters) throws(KVMError) {
        try inner.start(mode: mode, registers: registers)
    }
    func registers() throws(KVMError) -> VCPURegisters { try inner.registers() }
    func run() throws(KVMError) -> VCPUExit {
        try journal.call("run", "\(id)")
        return try inner.run()
    }
    func completeInput(_ data: [UInt8]) { inner.completeInput(data) }
    func completeHypercall(_ result: UInt64) {
        journal.note("answer", "\(result)")
        inner.completeHypercall(result)
    }
    func completeTDX(_ answer: TDXAnswer) {
        journal.note("answer-tdx", "\(answer.status.rawValue)")
        inner.completeTDX(answer)
    }
    func setImmediateExit(_ on: Bool) {
        journal.note("immediate-exit", "\(id)")
        inner.setImmediateExit(on)
    }
    func close() {
        journal.note("close-vcpu", "\(id)")
        inner.close()
    }
}

final class ObservedFile: BackingFile {
    let inner: any BackingFile
    private let side: String
    private let journal: CallJournal

    init(_ inner: any BackingFile, _ side: String, _ journal: CallJournal) {
        self.inner = inner
        self.side = side
        self.journal = journal
    }

    var size: ByteCount { inner.size }
    var inode: UInt64 { inner.inode }
    private func text(_ range: FileRange) -> String { "\(side) \(range.offset) + \(range.length)" }
    func allocate(_ range: FileRange) throws(KVMError) {
        try journal.call("allocate", text(range))
        try inner.allocate(range)
    }
    func punchHole(_ range: FileRange) throws(KVMError) {
        try journal.call("punch", text(range))
        try inner.punchHole(range)
    }
    func residentBytes(_ range: FileRange) throws(KVMError) -> ByteCount {
        try journal.call("resident", text(range))
        return try inner.residentBytes(range)
    }
    func map(_ range: FileRange) throws(KVMError) -> any MappedMemory {
        try journal.call("map", text(range))
        return ObservedMapping(try inner.map(range), journal)
    }
    func duplicateDescriptor() throws(KVMError) -> OwnedDescriptor {
        try journal.call("duplicate", side)
        return try inner.duplicateDescriptor()
    }
    func close() {
        journal.note("close-file", side)
        inner.close()
    }
}

final class ObservedMapping: MappedMemory {
    private let inner: any MappedMemory
    private let journal: CallJournal

    init(_ inner: any MappedMemory, _ journal: CallJournal) {
        self.inner = inner
        self.journal = journal
    }

    var baseAddress: UnsafeMutableRawPointer { inner.baseAddress }
    var size: ByteCount { inner.size }
    func dropMappings(offset: ByteCount, length: ByteCount) {
        journal.note("drop-mappings", "\(offset) + \(length)")
        inner.dropMappings(offset: offset, length: length)
    }
    func unmap() {
        journal.note("unmap")
        inner.unmap()
    }
}

final class ObservedMemoryHost: MemoryHost {
    private let inner: any MemoryHost
    private let journal: CallJournal

    init(_ inner: any MemoryHost, _ journal: CallJournal) {
        self.inner = inner
        self.journal = journal
    }

    func createSharedFile(name: String, size: ByteCount) throws(KVMError) -> any BackingFile {
        try journal.call("create-shared", name)
        return ObservedFile(try inner.createSharedFile(name: name, size: size), "shared", journal)
    }
}

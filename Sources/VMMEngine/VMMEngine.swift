internal import CKVM
internal import CLinux
internal import KVM
internal import LinuxSystem
internal import MemoryUnits
internal import Synchronization
internal import SystemPackage
internal import TDXEmulator
internal import TDXModule
internal import VMMTerms

/// Answers the KVM requests of a VMM that makes a TDX guest, on a host without TDX: by the emulator over a real VM.
///
/// The engine knows the VMM's descriptors by their numbers, which are real: /dev/kvm, a VM of type 0, its vCPUs,
/// guest_memfds. What it does not answer itself is the kernel's: then an answer is nil. Requests may come from many
/// threads at once, as they may come to the kernel. It knows nothing of how they reach it.
public final class VMMEngine: Sendable {
    let memory: any RequestMemory
    let system: EmulatedKVMSystem
    let backing: EngineConfiguration.Backing
    let guest: EngineGuest
    private let table = Mutex<[Int32: EngineObject]>([:])
    private let machines = Mutex<[EngineMachine]>([])
    let counts = RequestCounts()
    private let keyIDs: Int
    /// Told of each number that begins or ceases to be the engine's. Called without any lock held.
    private let tracking: @Sendable (Int32, Bool) -> Void

    /// - Parameters:
    ///   - device: an open /dev/kvm, only borrowed for the call.
    ///   - memory: what the arguments of requests point into.
    ///   - tracking: hears of the numbers that are the engine's.
    /// - Throws: what is missing on this host, in words.
    public init(
        _ configuration: EngineConfiguration, device: Int32, memory: any RequestMemory = OwnMemory(),
        tracking: @escaping @Sendable (Int32, Bool) -> Void = { _, _ in }
    ) throws(EngineError) {
        self.memory = memory
        self.tracking = tracking
        let kernel: KernelKVMSystem
        do throws(KVMError) {
            kernel = try KernelKVMSystem(path: "/proc/self/fd/\(device)")
        } catch {
            throw EngineError(description: "/dev/kvm: \(error)")
        }
        let flags = (try? kernel.check(.guestMemfdFlags)) ?? 0
        let canMap = (try? kernel.check(.guestMemfd)) == 1 && flags & 3 == 3
        switch configuration.backing {
        case .automatic: backing = canMap ? .guestMemfd : .memfd
        case .guestMemfd:
            guard canMap else {
                throw EngineError(
                    description: "this kernel has no guest_memfd that can be mapped (flags \(flags); Linux 6.17 has)")
            }
            backing = .guestMemfd
        case .memfd: backing = .memfd
        }
        guest = EngineGuest(configuration.guest)
        keyIDs = configuration.keyIDs.count
        do throws(EmulatorError) {
            system = try EmulatedKVMSystem(
                EmulatorConfiguration(
                    host: backing == .guestMemfd ? .guestMemfd(kernel) : .memfd, keyIDs: configuration.keyIDs,
                    terminate: .absent, idlesWhenFinished: true, processor: Self.hostProcessor(), guest: guest))
        } catch {
            throw EngineError(description: "the emulated host: \(error)")
        }
        if let path = configuration.trace { try record(to: path) }
    }

    /// The module's processor with the signature of this one: a VMM gives its host's.
    private static func hostProcessor() -> ProcessorModel {
        var words: [UInt32] = [0, 0, 0, 0]
        tdxd_cpuid(1, 0, &words)
        return ProcessorModel(signature: words[0])
    }

    private func record(to path: String) throws(EngineError) {
        do throws(LinuxError) {
            let file = RetainedDescriptor(try OwnedDescriptor.create(path: path))
            system.record { line in
                let bytes = Array((line + "\n").utf8)
                _ = bytes.withUnsafeBytes { tdxd_write(file.rawValue, $0.baseAddress, $0.count) }
            }
        } catch {
            throw EngineError(description: "the trace \(path): \(error)")
        }
    }

    // MARK: Descriptors

    /// The number is an open /dev/kvm from now on.
    public func adopt(system number: Int32) { track(number, EngineObject()) }

    /// Whether the number is the engine's.
    public func knows(_ number: Int32) -> Bool { table.withLock { $0[number] != nil } }

    /// The VMM makes `copy` another number of what `number` is, as dup(2) does, or replaces what `copy` was, as
    /// dup2(2) does. To be called after the kernel has done it.
    public func duplicated(_ number: Int32, as copy: Int32) {
        guard number != copy else { return }
        let object = table.withLock { $0[number] }
        if let object {
            track(copy, object)
        } else {
            closing(copy)?.finish()
        }
    }

    /// What is left to do when the VMM closes a number.
    public struct Closing {
        let object: EngineObject
        let engine: VMMEngine

        /// To be called once the kernel has closed the number.
        public func finish() { engine.drop(object) }
    }

    /// The VMM is about to close a number, which is not the engine's any more. Nil where it was not.
    public func closing(_ number: Int32) -> Closing? {
        guard let object = table.withLock({ $0.removeValue(forKey: number) }) else { return nil }
        tracking(number, false)
        return Closing(object: object, engine: self)
    }

    func track(_ number: Int32, _ object: EngineObject) {
        object.holders.wrappingAdd(1, ordering: .relaxed)
        let before = table.withLock { $0.updateValue(object, forKey: number) }
        tracking(number, true)
        // A number that was closed past the engine, such as by the kernel at dup2(2).
        if let before { drop(before) }
    }

    private func drop(_ object: EngineObject) {
        if object.holders.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0 { object.release() }
    }

    func object(_ number: Int32) -> EngineObject? { table.withLock { $0[number] } }

    // MARK: Requests

    /// ioctl(2) on a number of the engine's.
    /// - Returns: the kernel's result, negative for −errno. Nil: the request is the kernel's to answer.
    public func ioctl(_ number: Int32, _ request: UInt32, _ argument: UInt) -> Int32? {
        guard let object = object(number) else { return nil }
        counts.add(request)
        do throws(EngineErrno) {
            switch object {
            case let machine as EngineMachine: return try self.machine(machine, number, request, argument)
            case let vcpu as EngineVCPU: return try self.vcpu(vcpu, number, request, argument)
            case is EngineFile, is EngineStatistics: return nil
            default: return try device(number, request, argument)
            }
        } catch {
            counts.add(refusal: request, error.rawValue)
            return -error.rawValue
        }
    }

    /// fallocate(2) on a number of the engine's; as `ioctl`.
    public func fallocate(_ number: Int32, mode: Int32, offset: Int64, length: Int64) -> Int32? {
        guard let file = object(number) as? EngineFile else { return nil }
        do throws(EngineErrno) {
            guard offset >= 0, length > 0 else { throw .invalid }
            // KEEP_SIZE is 1, PUNCH_HOLE 2.
            guard mode == 1 || mode == 3 else { throw .notSupported }
            let range = FileRange(offset: ByteCount(UInt64(offset)), length: ByteCount(UInt64(length)))
            guard range.offset.isPageAligned, range.length.isPageAligned else { throw .invalid }
            try kvm { () throws(KVMError) in
                if mode == 3 { try file.memory.punchHole(range) } else { try file.memory.allocate(range) }
            }
            if mode == 3 { file.machine.counts.add(punched: UInt64(length)) }
            return 0
        } catch {
            return -error.rawValue
        }
    }

    /// What the VMM's mmap(2) of a number is to be.
    public enum Mapping: Hashable, Sendable {
        /// As it is.
        case plain
        /// −errno.
        case refused(Int32)
        /// Of this descriptor instead, which stays the engine's: every touch is SIGBUS.
        case untouchable(Int32)
    }

    /// What mmap(2) of a number becomes. Private memory of a TD cannot be mapped; a guest_memfd made with MMAP can
    /// be, and then not be touched.
    public func mapping(_ number: Int32) -> Mapping {
        guard let file = object(number) as? EngineFile else { return .plain }
        guard file.isMappable else { return .refused(-EngineErrno.noDevice.rawValue) }
        guard let empty = emptyFile() else { return .refused(-EngineErrno.noDevice.rawValue) }
        return .untouchable(empty)
    }

    private let empty = Mutex<Int32?>(nil)

    private func emptyFile() -> Int32? {
        empty.withLock { number in
            if number == nil {
                let made = tdxd_memfd_create("tdxd-untouchable", 0)
                if made >= 0 { number = made }
            }
            return number
        }
    }

    // MARK: /dev/kvm

    private func device(_ number: Int32, _ request: UInt32, _ argument: UInt) throws(EngineErrno) -> Int32? {
        switch request {
        case Ioctls.checkExtension.number:
            let capability = KVMCapability(rawValue: UInt32(truncatingIfNeeded: argument))
            guard capability != .vmTypes else {
                let types = max(0, kernelAnswer(number, request, argument))
                return types | 1 << Int32(VMType.tdx.rawValue)
            }
            guard Self.ownCapabilities.contains(capability) else { return nil }
            return Int32(clamping: try kvm { () throws(KVMError) in try system.check(capability) })
        case Ioctls.createVM.number:
            guard argument == UInt(VMType.tdx.rawValue) else { return nil }
            return try createMachine(number)
        default: return nil
        }
    }

    /// What a host with TDX answers in another way than this one; all else is the kernel's to tell.
    static let ownCapabilities: Set<KVMCapability> = [
        .numberOfMemslots, .maximumVCPUs, .splitIRQChip, .exitHypercall, .userMemory2, .memoryFaultInfo,
        .memoryAttributes,
        .guestMemfd, .preFaultMemory, .guestMemfdFlags,
    ]

    private func createMachine(_ device: Int32) throws(EngineErrno) -> Int32 {
        let emulated = try kvm { () throws(KVMError) in
            let machine = try system.createTrustDomainVM()
            try machine.setTSCFrequency(kilohertz: EngineMachine.standardKilohertz)
            return machine
        }
        let number: Int32
        do throws(EngineErrno) {
            number = try realMachine(emulated, device)
        } catch {
            emulated.close()
            throw error
        }
        let machine = EngineMachine(emulated, generation: machines.withLock { $0.count } + 1)
        machines.withLock { $0.append(machine) }
        track(number, machine)
        return number
    }

    /// A descriptor of the VM's for the VMM: the one that the emulator has, or one of its own where memory is memfds.
    private func realMachine(_ emulated: EmulatedVirtualMachine, _ device: Int32) throws(EngineErrno) -> Int32 {
        guard backing == .guestMemfd else {
            let number = tdxd_ioctl_value(device, Ioctls.createVM.number, 0)
            guard number >= 0 else { throw EngineErrno(rawValue: -number) }
            return number
        }
        let retained = try kvm { () throws(KVMError) in try emulated.retainedDescriptor() }
        guard let retained else { throw .invalid }
        do throws(LinuxError) {
            return try retained.duplicate().relinquish()
        } catch {
            throw EngineErrno(rawValue: error.errno.rawValue)
        }
    }

    // MARK: What happened

    /// TDs that were made so far, in their order.
    var allMachines: [EngineMachine] { machines.withLock { $0 } }

    /// Closes everything as the end of the VMM's process would, so that what is left can be counted. Numbers stay as
    /// they are in the kernel; requests on them answer EBADF.
    public func closeAll() {
        let objects = table.withLock { $0 }
        var done: Set<ObjectIdentifier> = []
        for (_, object) in objects.sorted(by: { $0.key < $1.key }) where done.insert(ObjectIdentifier(object)).inserted
        {
            (object as? EngineVCPU)?.emulated.setImmediateExit(true)
            object.release()
        }
        // A vCPU that runs comes out first.
        for _ in 0..<50 where allMachines.contains(where: { !$0.emulated.inspection.isDestroyed }) {
            CurrentThread.sleep(milliseconds: 10)
        }
    }

    /// Closes in the kernel, too, what is open; for an engine whose process goes on. `closeAll()` first.
    public func closeNumbers() {
        let numbers = table.withLock { table in
            defer { table = [:] }
            return table.keys.sorted()
        }
        for number in numbers {
            tracking(number, false)
            _ = tdxd_close(number)
        }
    }

    /// Key ids that no TD has, and how many there are.
    var freeKeyIDs: (free: Int, all: Int) { (system.freeKeyIDs, keyIDs) }

    func kvm<Result>(_ body: () throws(KVMError) -> Result) throws(EngineErrno) -> Result {
        do throws(KVMError) { return try body() } catch { throw EngineErrno(error) }
    }

    /// A request that the kernel answers as well.
    func kernelAnswer(_ number: Int32, _ request: UInt32, _ argument: UInt) -> Int32 {
        tdxd_ioctl_pointer(number, request, UnsafeMutableRawPointer(bitPattern: argument))
    }
}

/// What a number of the VMM's is; by itself /dev/kvm.
class EngineObject: @unchecked Sendable {
    // Sound: immutable or synchronised in every class.
    /// Numbers that are this.
    let holders = Atomic(0)
    /// The last number went.
    func release() {}
}

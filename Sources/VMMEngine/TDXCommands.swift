internal import CKVM
internal import CLinux
internal import KVM
internal import MemoryUnits
internal import SystemPackage
internal import TDXEmulator
internal import TDXStatusCodes

extension VMMEngine {
    private static let entriesOfCapabilities: UInt = 2056
    private static let entriesOfInitialization: UInt = 264
    /// Entries that KVM_TDX_INIT_VM and KVM_SET_CPUID2 take.
    static let maximumCPUIDEntries: UInt32 = 256

    /// KVM_MEMORY_ENCRYPT_OP on a VM.
    func command(_ machine: EngineMachine, _ argument: UInt) throws(EngineErrno) -> Int32 {
        var block = try tdxCommand(argument)
        let id = Int32(bitPattern: block.id)
        counts.add(command: block.id, onVM: true)
        switch id {
        case TDXD_KVM_TDX_CAPABILITIES:
            guard block.flags == 0 else { throw .invalid }
            try capabilities(machine, UInt(block.data))
        case TDXD_KVM_TDX_INIT_VM, TDXD_KVM_TDX_FINALIZE_VM:
            do throws(KVMError) {
                if id == TDXD_KVM_TDX_FINALIZE_VM {
                    try machine.emulated.tdxFinalize()
                } else {
                    try machine.emulated.tdxInitialize(try initialization(machine, block))
                }
            } catch {
                // The two commands whose block is written back, failed or not.
                block.hw_error = error.status?.rawValue ?? 0
                try memory.store(argument, block)
                machine.counts.note("\(error.operation): \(error.detail)")
                throw EngineErrno(error)
            }
            try memory.store(argument, block)
            if id == TDXD_KVM_TDX_FINALIZE_VM { guest.machineIsRunnable(machine.generation) }
        case TDXD_KVM_TDX_TERMINATE_VM:
            try kvm { () throws(KVMError) in try machine.emulated.tdxTerminate() }
        default: throw .invalid
        }
        return 0
    }

    private func tdxCommand(_ argument: UInt) throws(EngineErrno) -> tdxd_kvm_tdx_cmd {
        var block = tdxd_kvm_tdx_cmd()
        try memory.load(argument, &block)
        guard block.hw_error == 0 else { throw .invalid }
        return block
    }

    private func capabilities(_ machine: EngineMachine, _ address: UInt) throws(EngineErrno) {
        var room: UInt32 = 0
        try memory.load(address &+ 2048, &room)
        let known = try kvm { () throws(KVMError) in try machine.emulated.tdxCapabilities() }
        guard room >= known.configurableCPUID.count else { throw .tooBig }
        var head = tdxd_kvm_tdx_capabilities()
        head.supported_attrs = known.supportedAttributes
        head.supported_xfam = known.supportedXFAM
        head.supported_caps = known.supportedCommands
        head.kernel_tdvmcallinfo_1_r11 = known.tdvmcalls.kernelR11
        head.user_tdvmcallinfo_1_r11 = known.tdvmcalls.userR11
        head.kernel_tdvmcallinfo_1_r12 = known.tdvmcalls.kernelR12
        head.user_tdvmcallinfo_1_r12 = known.tdvmcalls.userR12
        head.nent = UInt32(known.configurableCPUID.count)
        try memory.store(address, head)
        try memory.storeCPUID(address &+ Self.entriesOfCapabilities, known.configurableCPUID)
    }

    private func initialization(
        _ machine: EngineMachine, _ block: tdxd_kvm_tdx_cmd
    ) throws(KVMError) -> TDXInitialization {
        let name = "KVM_TDX_INIT_VM"
        func refuse(_ errno: EngineErrno, _ detail: String) -> KVMError {
            KVMError(name, .init(rawValue: errno.rawValue), detail: detail)
        }
        guard block.flags == 0 else { throw refuse(.invalid, "flags \(block.flags)") }
        let address = UInt(block.data)
        do throws(EngineErrno) {
            let head = try memory.bytes(address, count: 264)
            func word(_ offset: Int) -> UInt64 {
                head.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt64.self) }
            }
            let count = UInt32(truncatingIfNeeded: word(256))
            guard count <= Self.maximumCPUIDEntries else { throw .tooBig }
            guard head[160..<256].allSatisfy({ $0 == 0 }), word(256) >> 32 == 0 else { throw .invalid }
            var cpuid = try memory.cpuid(address &+ Self.entriesOfInitialization, count: Int(count))
            // QEMU writes the width that the host's own CPUID has here, and that cannot be intercepted; on a host
            // without TDX it is none of the two that a TD may have.
            if let place = cpuid.firstIndex(where: { $0.function == 0x8000_0008 }) {
                let width = cpuid[place].eax >> 16 & 0xFF
                if width != 48 && width != 52 {
                    cpuid[place].eax = cpuid[place].eax & 0xFF00_FFFF | 48 << 16
                    machine.counts.note("KVM_TDX_INIT_VM: guest-physical width \(width) was taken for 48")
                }
            }
            return TDXInitialization(
                attributes: word(0), xfam: word(8), mrConfigID: Array(head[16..<64]), mrOwner: Array(head[64..<112]),
                mrOwnerConfig: Array(head[112..<160]), cpuid: cpuid)
        } catch {
            throw refuse(error, "the structure at 0x\(String(address, radix: 16))")
        }
    }

    // MARK: vCPU

    /// KVM_MEMORY_ENCRYPT_OP on a vCPU.
    func command(_ vcpu: EngineVCPU, _ argument: UInt) throws(EngineErrno) -> Int32 {
        let block = try tdxCommand(argument)
        counts.add(command: block.id, onVM: false)
        switch Int32(bitPattern: block.id) {
        case TDXD_KVM_TDX_INIT_VCPU:
            guard block.flags == 0 else { throw .invalid }
            try kvm { () throws(KVMError) in try vcpu.emulated.tdxInitialize(initialRCX: block.data) }
        case TDXD_KVM_TDX_INIT_MEM_REGION: try initializeMemory(vcpu, block)
        case TDXD_KVM_TDX_GET_CPUID: try tellCPUID(vcpu, UInt(block.data))
        default: throw .invalid
        }
        return 0
    }

    private func initializeMemory(_ vcpu: EngineVCPU, _ block: tdxd_kvm_tdx_cmd) throws(EngineErrno) {
        guard block.flags & ~UInt32(TDXD_KVM_TDX_MEASURE_MEMORY_REGION) == 0 else { throw .invalid }
        let address = UInt(block.data)
        var region = tdxd_kvm_tdx_init_mem_region()
        try memory.load(address, &region)
        let page = UInt64(pageSize)
        guard region.source_addr % page == 0, region.gpa % page == 0, region.nr_pages > 0,
            region.nr_pages <= UInt64.max / page, region.gpa <= UInt64.max - region.nr_pages * page
        else { throw .invalid }
        let isMeasured = block.flags != 0
        var refusal: EngineErrno?
        // 512 pages at a time, copied first: a source that cannot be read is an answer.
        let largest: UInt64 = 512
        let room = UnsafeMutableRawBufferPointer.allocate(
            byteCount: Int(min(region.nr_pages, largest) * page), alignment: Int(page))
        defer { room.deallocate() }
        while region.nr_pages > 0, refusal == nil {
            let pages = min(region.nr_pages, largest)
            do throws(EngineErrno) {
                guard region.source_addr != 0 else { throw .notSupported }
                let source = UnsafeMutableRawBufferPointer(rebasing: room[..<Int(pages * page)])
                guard memory.read(UInt(region.source_addr), into: source) else { throw .fault }
                try addMemory(vcpu, UnsafeRawBufferPointer(source), GuestPhysicalAddress(region.gpa), isMeasured)
                region.source_addr += pages * page
                region.gpa += pages * page
                region.nr_pages -= pages
                vcpu.machine.counts.add(loadedPages: pages, measured: isMeasured)
            } catch {
                refusal = error
            }
        }
        try memory.store(address, region)
        if let refusal { throw refusal }
    }

    private func addMemory(
        _ vcpu: EngineVCPU, _ source: UnsafeRawBufferPointer, _ address: GuestPhysicalAddress, _ isMeasured: Bool
    ) throws(EngineErrno) {
        do throws(KVMError) {
            try vcpu.emulated.tdxInitializeMemory(from: source, at: address, measured: isMeasured) { _ in }
        } catch {
            vcpu.machine.counts.note("\(error.operation) at \(address): \(error.detail)")
            throw EngineErrno(error)
        }
    }

    private static let repeatedByAMD: UInt32 = 0x0183_F3FF
    private static let hostIsAMD: Bool = {
        var words: [UInt32] = [0, 0, 0, 0]
        tdxd_cpuid(0, 0, &words)
        // "Auth" of AuthenticAMD, "Hygo" of HygonGenuine
        return words[1] == 0x6874_7541 || words[1] == 0x6F67_7948
    }()

    private func tellCPUID(_ vcpu: EngineVCPU, _ address: UInt) throws(EngineErrno) {
        var room: UInt32 = 0
        try memory.load(address, &room)
        var entries = try kvm { () throws(KVMError) in try vcpu.emulated.tdxCPUID() }
        // A VMM on an AMD host repeats bits of leaf 1 in leaf 0x80000001, as such processors do; without them there
        // it would warn of each.
        if Self.hostIsAMD, let features = entries.first(where: { $0.function == 1 }),
            let place = entries.firstIndex(where: { $0.function == 0x8000_0001 })
        {
            entries[place].edx |= features.edx & Self.repeatedByAMD
        }
        try memory.store(address, UInt32(entries.count))
        guard room >= entries.count else { throw .tooBig }
        try memory.storeCPUID(address &+ 8, entries)
    }
}

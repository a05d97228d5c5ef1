internal import KVM
internal import MemoryUnits
internal import Synchronization
internal import SystemPackage
internal import TDXModule
internal import TDXStatusCodes

extension TDXMachine {
    /// KVM_TDX_INIT_VM: a key id, the control pages, MNG.CREATE … MNG.INIT. A failure after MNG.CREATE tears down again
    /// and leaves the VM uninitialised. Sources: reference/kvm.md §1.5 and §4.2.
    func initialize(_ request: TDXInitialization) throws(KVMError) {
        let command = TDXCommand.initializeVM
        let name = command.rule.name
        try enter(name)
        try withAllLocks(name) { () throws(KVMError) in
            try command.checkState(state)
            guard request.cpuid.count <= 256 else {
                throw KVMError(name, .argListTooLong, detail: "\(request.cpuid.count) CPUID entries of at most 256")
            }
            guard vcpus.isEmpty else { throw KVMError(name, .resourceBusy, detail: "vCPUs exist") }
            let parameters = try TDParameters(
                request, maximumVCPUs: min(1024, host.processors), kilohertz: kilohertz)
            let keyID: KeyID
            do throws(Errno) { keyID = try host.keys.allocate() } catch {
                throw KVMError(name, error, detail: "\(host.keys.freeCount) key ids are free")
            }
            let created = try createDomain(parameters, keyID: keyID, name: name)
            mmuLock.withWriteLock {
                domain = created
                hasKeyID = true
            }
            state = .initialized
            evidence.withLock { $0.keyID = keyID }
        }
    }

    private func createDomain(
        _ parameters: TDParameters, keyID: KeyID, name: String
    ) throws(KVMError) -> TrustDomain {
        // KVM's control pages come before the module's calls: ENOMEM leaves nothing to undo.
        var pages: [HostPhysicalAddress] = []
        for _ in 0..<1 + TDParameters.pageCount {
            guard let page = host.frames.allocateControlPage() else {
                pages.forEach(host.frames.freeControlPage)
                host.keys.release(keyID)
                throw KVMError(name, .noMemory, detail: "control pages")
            }
            pages.append(page)
        }
        let tdr = pages.removeFirst()
        let create = host.tdxLock.withLock {
            seamcall(.mngCreate, rcx: tdr.rawValue, rdx: UInt64(keyID.rawValue))
        }
        guard create.status.isSuccess else {
            (pages + [tdr]).forEach(host.frames.freeControlPage)
            host.keys.release(keyID)
            throw failure(name, .mngCreate, create.status)
        }
        var built = TrustDomain(
            keyID: keyID, tdr: tdr, controlPages: [], sharedBit: parameters.sharedBit,
            rootLevel: parameters.rootLevel)
        do throws(KVMError) {
            try configure(&built, pages: &pages, parameters, name: name)
        } catch {
            pages.forEach(host.frames.freeControlPage)
            mmuLock.withWriteLock {
                domain = built
                hasKeyID = true
                releaseKeyID()
                reclaimControlPages()
                domain = nil
            }
            throw error
        }
        return built
    }

    private func configure(
        _ built: inout TrustDomain, pages: inout [HostPhysicalAddress], _ parameters: TDParameters, name: String
    ) throws(KVMError) {
        for package in 0..<host.configuration.packages {
            let processor = host.firstProcessor(of: package)
            let result = host.tdxLock.withLock {
                seamcall(.mngKeyConfig, rcx: built.tdr.rawValue, on: processor)
            }
            guard result.status.isSuccess else { throw bugOn(name, .mngKeyConfig, result.status) }
        }
        while let page = pages.last {
            let result = seamcall(.mngAddcx, rcx: page.rawValue, rdx: built.tdr.rawValue)
            guard result.status.isSuccess else { throw failure(name, .mngAddcx, result.status) }
            built.controlPages.append(pages.removeLast())
        }
        guard let buffer = host.frames.allocateHostPage() else { throw KVMError(name, .noMemory, detail: "TD_PARAMS") }
        defer { host.frames.freeHostPage(buffer) }
        host.frames.withPage(of: buffer, count: parameters.bytes.count, writes: true) {
            $0.copyBytes(from: parameters.bytes)
        }
        let initialise = seamcall(.mngInit, rcx: built.tdr.rawValue, rdx: buffer.rawValue)
        if initialise.status.base == .operandInvalid {
            throw KVMError(name, .invalidArgument, status: initialise.status, detail: SeamcallLeaf.mngInit.name)
        }
        guard initialise.status.isSuccess else { throw bugOn(name, .mngInit, initialise.status) }
        // KVM reads the TSC offset and multiplier here; emulated time is the host's own, so nothing uses them.
    }

    /// EAGAIN for "no entropy"; everything else is a KVM_BUG_ON.
    private func failure(_ name: String, _ leaf: SeamcallLeaf, _ status: TDXStatus) -> KVMError {
        guard status.base == .rndNoEntropy else { return bugOn(name, leaf, status) }
        return KVMError(name, .resourceTemporarilyUnavailable, detail: "\(leaf.name) ended with \(status)")
    }

    /// KVM_SET_TSC_KHZ on the VM.
    func setTSCFrequency(_ wanted: UInt32) throws(KVMError) {
        let name = "KVM_SET_TSC_KHZ"
        try enter(name)
        try kvmLock.withLock { () throws(KVMError) in
            guard vcpus.isEmpty, vcpusInCreation == 0 else {
                throw KVMError(name, .invalidArgument, detail: "vCPUs exist")
            }
            kilohertz = wanted == 0 ? TDParameters.hostKilohertz : wanted
        }
    }

    /// KVM_TDX_FINALIZE_VM.
    func finalize() throws(KVMError) {
        let command = TDXCommand.finalizeVM
        let name = command.rule.name
        try enter(name)
        try withAllLocks(name) { () throws(KVMError) in
            try command.checkState(state)
            let result = seamcall(.mrFinalize, rcx: domain!.tdr.rawValue)
            if result.status.isBusy { throw KVMError(name, .resourceBusy, status: result.status) }
            guard result.status.isSuccess else {
                var refusal = bugOn(name, .mrFinalize, result.status)
                // One of the two commands whose status reaches user space.
                refusal.status = result.status
                throw refusal
            }
            mmuLock.withWriteLock {
                state = .runnable
                preFaultAllowed = true
            }
            let measurement = host.module.mrtd(of: domain!.tdr)
            evidence.withLock { $0.measurement = measurement }
        }
    }

    /// KVM_TDX_GET_CPUID: every leaf that the module reports, from 0 and from 0x80000000 on, by pairs of MNG.RD; EIO where it does not
    /// report the first of a range. A leaf is read without a sub-leaf first, then by sub-leaves until one is not reported. The
    /// guest-physical width, which modules of this version do not report, is KVM's own knowledge.
    func cpuid(_ vcpu: VCPUCore) throws(KVMError) -> [CPUIDEntry] {
        let command = TDXCommand.getCPUID
        let name = command.rule.name
        try enter(name)
        return try vcpu.mutex.withLock { () throws(KVMError) in
            try command.checkState(state)
            var entries: [CPUIDEntry] = []
            for start in [0, 0x8000_0000] as [UInt32] {
                let place = entries.count
                guard addCPUID(start, to: &entries) else {
                    throw KVMError(name, .ioError, detail: "leaf 0x\(String(start, radix: 16)) is not reported")
                }
                // A range's last leaf is in EAX of its first.
                let last = entries[place].eax
                guard last > start, last - start < 128 else { continue }
                for function in start + 1...last { addCPUID(function, to: &entries) }
            }
            return entries
        }
    }

    @discardableResult
    private func addCPUID(_ function: UInt32, to entries: inout [CPUIDEntry]) -> Bool {
        if let entry = readCPUID(function, nil) {
            entries.append(entry)
            return true
        }
        for index in 0..<128 as Range<UInt32> {
            guard let entry = readCPUID(function, index) else { return index > 0 }
            entries.append(entry)
        }
        return true
    }

    private func readCPUID(_ function: UInt32, _ index: UInt32?) -> CPUIDEntry? {
        var words: [UInt32] = []
        for second in [false, true] {
            let field = CPUIDConfiguration.field(function, index ?? .max, ofECXAndEDX: second)
            let result = seamcall(.mngRd, rcx: domain!.tdr.rawValue, rdx: field)
            guard result.status.isSuccess else { return nil }
            words += [UInt32(truncatingIfNeeded: result.r8), UInt32(result.r8 >> 32)]
        }
        if function == 0x8000_0008 {
            words[0] = words[0] & 0xFF00_FFFF | (domain!.sharedBit == 1 << 51 ? 52 : 48) << 16
        }
        return CPUIDEntry(
            function: function, index: index ?? 0, flags: index == nil ? 0 : 1, eax: words[0], ebx: words[1],
            ecx: words[2], edx: words[3])
    }

    /// KVM_CREATE_VCPU.
    func createVCPU(id: UInt32) throws(KVMError) -> VCPUCore {
        let name = "KVM_CREATE_VCPU"
        try enter(name)
        func refuse(_ errno: Errno, _ detail: String) -> KVMError { KVMError(name, errno, detail: detail) }
        guard id < 4096 else { throw refuse(.invalidArgument, "id \(id) of at most 4095") }
        if let limit = kvmLock.withLock({ maximumVCPUID }), UInt64(id) >= limit {
            throw refuse(.invalidArgument, "id \(id) of at most \(limit - 1)")
        }
        let maximum = min(1024, host.processors)
        try kvmLock.withLock { () throws(KVMError) in
            guard vcpus.count + vcpusInCreation < maximum else {
                throw refuse(.invalidArgument, "at most \(maximum) vCPUs")
            }
            vcpusInCreation += 1
        }
        kvmLock.lock()
        defer {
            vcpusInCreation -= 1
            kvmLock.unlock()
        }
        guard state == .initialized else { throw refuse(.ioError, "the TD is \(state)") }
        guard hasSplitIRQChip else { throw refuse(.invalidArgument, "no split irqchip") }
        guard !vcpus.contains(where: { $0.id == id }) else { throw refuse(.fileExists, "vCPU \(id) exists") }
        let vcpu = VCPUCore(
            id: id, processor: LogicalProcessorID(id % UInt32(host.processors)), guestMode: makeGuestMode())
        mmuLock.withWriteLock { vcpus.append(vcpu) }
        return vcpu
    }

    /// KVM_TDX_INIT_VCPU: VP.CREATE, VP.ADDCX ×5, VP.INIT version 1.
    func initializeVCPU(_ vcpu: VCPUCore, initialRCX: UInt64) throws(KVMError) {
        let command = TDXCommand.initializeVCPU
        let name = command.rule.name
        try enter(name)
        try withAllLocks(name) { () throws(KVMError) in
            try command.checkState(state, vcpu: vcpu.state)
            guard TrustDomainCPUID.hasX2APIC(vcpu.cpuid) else {
                throw KVMError(
                    name, .invalidArgument,
                    detail: "vCPU \(vcpu.id): its CPUID has no x2APIC (leaf 1, ECX bit 21), which its APIC base needs")
            }
            var pages: [HostPhysicalAddress] = []
            for _ in 0..<TDParameters.vcpuPageCount {
                guard let page = host.frames.allocateControlPage() else {
                    pages.forEach(host.frames.freeControlPage)
                    throw KVMError(name, .noMemory, detail: "control pages")
                }
                pages.append(page)
            }
            var taken: [HostPhysicalAddress] = []
            defer {
                // Whatever the module took is reclaimed when the VM is destroyed; the rest goes back now.
                mmuLock.withWriteLock {
                    vcpu.guestMode.tdvpr = taken.first
                    vcpu.controlPages = Array(taken.dropFirst())
                }
                pages.forEach(host.frames.freeControlPage)
            }
            let tdvpr = pages.last!
            let create = seamcall(.vpCreate, rcx: tdvpr.rawValue, rdx: domain!.tdr.rawValue, on: vcpu.processor)
            guard create.status.isSuccess else { throw bugOn(name, .vpCreate, create.status) }
            taken.append(pages.removeLast())
            while let page = pages.last {
                let add = seamcall(.vpAddcx, rcx: page.rawValue, rdx: tdvpr.rawValue, on: vcpu.processor)
                guard add.status.isSuccess else { throw bugOn(name, .vpAddcx, add.status) }
                taken.append(pages.removeLast())
            }
            // The lock keeps concurrent removals, such as a punch, away from VP.INIT.
            let initialise = mmuLock.withWriteLock {
                seamcall(
                    .vpInit, version: 1, rcx: tdvpr.rawValue, rdx: initialRCX, r8: UInt64(vcpu.id),
                    on: vcpu.processor)
            }
            guard initialise.status.isSuccess else { throw bugOn(name, .vpInit, initialise.status) }
            vcpu.mayBeAssociated = true
            vcpu.initialRCX = initialRCX
            vcpu.state = .initialized
        }
    }
}

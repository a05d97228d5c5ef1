internal import ConfidentialMemory
internal import KVM
internal import LinuxSystem
internal import MemoryUnits
internal import SystemPackage

/// The self-test's VM: 4 MiB of guest_memfd memory at 1 MiB, one vCPU, and a guest that asks for conversions.
///
/// On a VM of type 1 private and shared memory are apart, with the kernel's own attributes. On type 0 there is one
/// guest_memfd for both, and the attributes are this process's book.
struct SelfTestRig {
    static let memoryRange = GuestPhysicalRange(start: GuestPhysicalAddress(0x10_0000), size: .mebibytes(4))
    /// Shared: where the guest starts.
    static let bootPage = GuestPhysicalRange(start: GuestPhysicalAddress(0x10_0000), size: ByteCount(4096))
    /// Private: where it goes on.
    static let programPage = GuestPhysicalRange(start: GuestPhysicalAddress(0x10_1000), size: ByteCount(4096))
    /// What it writes, checks and converts. It crosses a border of 2 MiB blocks.
    static let data = GuestPhysicalRange(start: GuestPhysicalAddress(0x1F_8000), size: .kibibytes(64))

    let machine: any KVMVirtualMachine
    let vcpu: any KVMVirtualCPU
    let memory: GuestMemory
    let runner: GuestRunner
    let gate = VCPUGate()
    let transport: ConversionTransport

    var sides: MemorySides { memory.sides }

    /// Creates the VM and its memory and starts nothing. What was made is closed again when a step fails.
    init(_ system: any KVMSystem, type: VMType, vendor: String) throws(SelfTestFailure) {
        let isApart = type == .softwareProtected
        transport = !isApart ? .port : vendor == "AuthenticAMD" ? .vmmcall : .vmcall
        do throws(KVMError) {
            machine = try system.createVirtualMachine(type)
        } catch {
            throw SelfTestFailure("\(error)")
        }
        var made: (any KVMVirtualCPU)?
        var guestMemory: GuestMemory?
        do {
            if isApart { try machine.enable(.exitHypercall, [1 << SelfTestGuest.mapRangeNumber]) }
            let memory = try GuestMemory.make(
                in: machine, host: LinuxMemoryHost(),
                plan: ShardPlan(regions: [Self.memoryRange], policy: ShardPolicy(maximumPerRegion: 1)),
                sides: isApart ? .apart : .inPlace, name: "tdxd-selftest")
            guestMemory = memory
            let vcpu = try machine.createVCPU(id: 0)
            made = vcpu
            self.memory = memory
            self.vcpu = vcpu
            try memory.convert(Self.programPage, to: .private)
            try memory.convert(Self.data, to: .private)
            runner = try GuestRunner(vcpu)
        } catch {
            let teardown = Teardown(
                machine: machine, vcpus: made.map { [$0] } ?? [], memory: guestMemory, gate: VCPUGate())
            _ = try? teardown.run(TeardownPlan(teardown.facts(terminate: .absent)))
            throw SelfTestFailure("\(error)")
        }
    }

    /// Puts the program where the guest starts and sets the registers. `entry` is an offset in the program's page.
    func load(entry: UInt64) throws(SelfTestFailure) {
        guard let page = memory.hostView(of: Self.bootPage) else {
            throw SelfTestFailure("the boot page is not mapped")
        }
        page.copyBytes(
            from: SelfTestGuest.page(
                at: UInt32(Self.bootPage.start.rawValue), transport: transport,
                dataAddress: UInt32(Self.data.start.rawValue), dataBytes: UInt32(Self.data.size.rawValue)))
        var registers = VCPURegisters()
        registers.rip = Self.bootPage.start.rawValue + entry
        registers.rsi = Self.bootPage.start.rawValue
        registers.rdi = Self.programPage.start.rawValue
        do {
            try vcpu.start(mode: .protected32, registers: registers)
        } catch {
            throw SelfTestFailure("\(error)")
        }
    }

    /// Bytes of the data range that are present on each side, by cachestat(2). Nil on a kernel that cannot count.
    func residency() throws(SelfTestFailure) -> Residency? {
        do {
            return try memory.residency(of: Self.data)
        } catch .refused(let error) where error.errno == .noFunction {
            return nil
        } catch {
            throw SelfTestFailure("\(error)")
        }
    }

    /// What the host sees of the data range: the shared side, or in place the guest's own pages.
    var view: UnsafeMutableRawBufferPointer {
        guard let view = memory.hostView(of: Self.data) else { preconditionFailure("the data lies in one shard") }
        return view
    }

    /// Ends the VM in the order of every teardown.
    func tearDown() -> TeardownReport? {
        runner.end()
        let teardown = Teardown(machine: machine, vcpus: [vcpu], memory: memory, gate: gate)
        guard let plan = try? TeardownPlan(teardown.facts(terminate: .absent)) else { return nil }
        return teardown.run(plan)
    }
}

/// Why the self-test could not go on.
struct SelfTestFailure: Error, Hashable, Sendable {
    var reason: String
    init(_ reason: String) { self.reason = reason }
}

/// The patterns that guest and host write: the dword at address `a` is `seed ^ a`.
enum SelfTestPattern {
    /// Dwords of the host's view that differ from the pattern.
    static func mismatches(in view: UnsafeMutableRawBufferPointer, at start: UInt64, seed: UInt32) -> Int {
        stride(from: 0, to: view.count, by: 4).count { offset in
            view.load(fromByteOffset: offset, as: UInt32.self) != seed
                ^ UInt32(truncatingIfNeeded: start + UInt64(offset))
        }
    }

    /// Bytes of the host's view that are not zero.
    static func nonZero(in view: UnsafeMutableRawBufferPointer) -> Int { view.count { $0 != 0 } }

    static func write(to view: UnsafeMutableRawBufferPointer, at start: UInt64, seed: UInt32) {
        for offset in stride(from: 0, to: view.count, by: 4) {
            view.storeBytes(
                of: seed ^ UInt32(truncatingIfNeeded: start + UInt64(offset)), toByteOffset: offset, as: UInt32.self)
        }
    }
}

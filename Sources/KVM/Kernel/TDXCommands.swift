internal import CKVM
internal import LinuxSystem
public import MemoryUnits
package import SystemPackage
internal import TDXStatusCodes

/// A sub-command of KVM_MEMORY_ENCRYPT_OP on a TDX VM. Source: reference kernel header, arch/x86/include/uapi/asm/kvm.h.
package struct TDXCommand: Sendable {
    package let name: String
    package let id: UInt32

    package static let capabilities = Self(name: "KVM_TDX_CAPABILITIES", id: UInt32(TDXD_KVM_TDX_CAPABILITIES))
    package static let initVM = Self(name: "KVM_TDX_INIT_VM", id: UInt32(TDXD_KVM_TDX_INIT_VM))
    package static let initVCPU = Self(name: "KVM_TDX_INIT_VCPU", id: UInt32(TDXD_KVM_TDX_INIT_VCPU))
    package static let initMemoryRegion = Self(
        name: "KVM_TDX_INIT_MEM_REGION", id: UInt32(TDXD_KVM_TDX_INIT_MEM_REGION))
    package static let finalizeVM = Self(name: "KVM_TDX_FINALIZE_VM", id: UInt32(TDXD_KVM_TDX_FINALIZE_VM))
    package static let getCPUID = Self(name: "KVM_TDX_GET_CPUID", id: UInt32(TDXD_KVM_TDX_GET_CPUID))
    package static let terminateVM = Self(name: "KVM_TDX_TERMINATE_VM", id: UInt32(TDXD_KVM_TDX_TERMINATE_VM))
}

extension KVMDescriptor {
    /// One attempt. The result is 0 or −errno, with the module's status where the kernel reported one.
    fileprivate func attempt(
        _ command: TDXCommand, flags: UInt32, data: UInt64
    ) throws(KVMError) -> (result: Int32, status: TDXStatus?) {
        var block = tdxd_kvm_tdx_cmd(id: command.id, flags: flags, data: data, hw_error: 0)
        let result = try attempt(Ioctls.memoryEncryptOperation.request, at: &block)
        return (result, block.hw_error == 0 ? nil : TDXStatus(rawValue: block.hw_error))
    }

    /// The command, resumed where that is known to be safe: after EINTR always, after EAGAIN (the processor's random
    /// numbers ran out) for a while.
    package func tdx(
        _ command: TDXCommand, flags: UInt32 = 0, data: UInt64 = 0, _ detail: @autoclosure () -> String = ""
    ) throws(KVMError) {
        var retries = RetryBudget()
        while true {
            let (result, status) = try attempt(command, flags: flags, data: data)
            guard result < 0 else { return }
            let errno = Errno(rawValue: -result)
            if errno == .interrupted { continue }
            if errno == .resourceTemporarilyUnavailable, retries.waitOnce() { continue }
            throw KVMError(command.name, errno, status: status, detail: detail())
        }
    }

    /// KVM_TDX_INIT_MEM_REGION over whole pages: the kernel writes back what is left, and the rest is asked for again.
    /// Asked in parts, so that `progress` hears of it and no other vCPU waits long for the VM's locks.
    fileprivate func addMemory(
        _ source: UnsafeRawBufferPointer, _ address: GuestPhysicalAddress, measured: Bool,
        _ progress: (PageCount) -> Void
    ) throws(KVMError) {
        let command = TDXCommand.initMemoryRegion
        let total = UInt64(source.count) / pageSize
        guard UInt64(source.count) == total * pageSize, total > 0 else {
            throw KVMError(command.name, .invalidArgument, detail: "\(source.count) bytes are no whole pages")
        }
        var done: UInt64 = 0
        var retries = RetryBudget()
        while done < total {
            var region = tdxd_kvm_tdx_init_mem_region(
                source_addr: UInt64(UInt(bitPattern: source.baseAddress)) + done * pageSize,
                gpa: address.rawValue + done * pageSize, nr_pages: min(total - done, 512))
            let asked = region.nr_pages
            let (result, status) = try withUnsafeMutablePointer(to: &region) { pointer throws(KVMError) in
                try attempt(
                    command, flags: measured ? UInt32(TDXD_KVM_TDX_MEASURE_MEMORY_REGION) : 0,
                    data: UInt64(UInt(bitPattern: pointer)))
            }
            let added = asked - min(asked, region.nr_pages)
            done += added
            if added > 0 {
                retries = RetryBudget()
                progress(PageCount(done))
            }
            guard result < 0 else { continue }
            let errno = Errno(rawValue: -result)
            if errno == .interrupted { continue }
            if errno == .resourceTemporarilyUnavailable, retries.waitOnce() { continue }
            throw KVMError(
                command.name, errno, status: status,
                detail: "page \(done) of \(total) at \(address + PageCount(done).bytes)")
        }
    }
}

/// How often EAGAIN is believed before it is reported: 1,000 waits of 1 ms without any progress.
struct RetryBudget {
    private var left = 1000

    mutating func waitOnce() -> Bool {
        guard left > 0 else { return false }
        left -= 1
        CurrentThread.sleep(milliseconds: 1)
        return true
    }
}

extension KernelVirtualMachine {
    public func tdxCapabilities() throws(KVMError) -> TDXCapabilities {
        let header = MemoryLayout<tdxd_kvm_tdx_capabilities>.size
        // E2BIG comes without the number of leaves, so the room is doubled. 4,096 leaves are far beyond any module's.
        var room = 64
        while true {
            let buffer = CPUIDBuffer(headerSize: header, countOffset: 2048, room: room)
            do throws(KVMError) {
                try buffer.withPointer { pointer throws(KVMError) in
                    try descriptor.tdx(
                        .capabilities, data: UInt64(UInt(bitPattern: pointer)), "room for \(room) leaves")
                }
            } catch  where error.errno == .argListTooLong && room < 4096 {
                room *= 2
                continue
            }
            return TDXCapabilities(
                supportedAttributes: buffer.load(at: 0), supportedXFAM: buffer.load(at: 8),
                supportedCommands: buffer.load(at: 48), configurableCPUID: buffer.entries,
                tdvmcalls: TDVMCallSupport(
                    kernelR11: buffer.load(at: 16), userR11: buffer.load(at: 24), kernelR12: buffer.load(at: 32),
                    userR12: buffer.load(at: 40)))
        }
    }

    public func tdxInitialize(_ parameters: TDXInitialization) throws(KVMError) {
        let buffer = CPUIDBuffer(
            headerSize: MemoryLayout<tdxd_kvm_tdx_init_vm>.size, countOffset: 256, parameters.cpuid)
        buffer.store(parameters.attributes, at: 0)
        buffer.store(parameters.xfam, at: 8)
        buffer.store(parameters.mrConfigID, at: 16)
        buffer.store(parameters.mrOwner, at: 64)
        buffer.store(parameters.mrOwnerConfig, at: 112)
        try buffer.withPointer { pointer throws(KVMError) in
            try descriptor.tdx(
                .initVM, data: UInt64(UInt(bitPattern: pointer)),
                "attributes 0x\(String(parameters.attributes, radix: 16)), xfam 0x\(String(parameters.xfam, radix: 16)), "
                    + "\(parameters.cpuid.count) CPUID leaves")
        }
    }

    public func tdxFinalize() throws(KVMError) { try descriptor.tdx(.finalizeVM) }

    public func tdxTerminate() throws(KVMError) { try descriptor.tdx(.terminateVM) }
}

extension KernelVirtualCPU {
    public func tdxInitialize(initialRCX: UInt64) throws(KVMError) {
        try descriptor.tdx(.initVCPU, data: initialRCX, "vCPU \(id)")
    }

    public func tdxCPUID() throws(KVMError) -> [CPUIDEntry] {
        // E2BIG comes with the number that is needed. A kernel that asks for more than 4,096 is not believed.
        var room = 64
        while true {
            let buffer = CPUIDBuffer(headerSize: MemoryLayout<Ioctls.CPUIDHeader>.size, countOffset: 0, room: room)
            do throws(KVMError) {
                try buffer.withPointer { pointer throws(KVMError) in
                    try descriptor.tdx(
                        .getCPUID, data: UInt64(UInt(bitPattern: pointer)), "vCPU \(id), room for \(room) leaves")
                }
                return buffer.entries
            } catch {
                let needed = Int(buffer.load(at: 0, as: UInt32.self))
                guard error.errno == .argListTooLong, needed > room, needed <= 4096 else { throw error }
                room = needed
            }
        }
    }

    public func tdxInitializeMemory(
        from source: UnsafeRawBufferPointer, at address: GuestPhysicalAddress, measured: Bool,
        progress: (PageCount) -> Void
    ) throws(KVMError) {
        try descriptor.addMemory(source, address, measured: measured, progress)
    }

    public func preFault(_ range: GuestPhysicalRange) throws(KVMError) {
        var (place, remaining) = (range.start.rawValue, range.size.rawValue)
        var retries = RetryBudget()
        repeat {
            let before = remaining
            let refusal = try preFaultOnce(&place, &remaining)
            if remaining < before { retries = RetryBudget() }
            guard let errno = refusal else { continue }
            if errno == .interrupted { continue }
            if errno == .resourceTemporarilyUnavailable, retries.waitOnce() { continue }
            throw KVMError(
                Ioctls.preFaultMemory.request.name, errno,
                detail: "vCPU \(id), \(range), stopped at 0x\(String(place, radix: 16))")
        } while remaining > 0
    }

    /// One KVM_PRE_FAULT_MEMORY, whatever it answers: the kernel writes back where it stopped and what remains.
    ///
    /// - Parameters:
    ///   - place: a guest-physical address in bytes, and afterwards the first that was not faulted in.
    ///   - remaining: bytes from there, and afterwards those that are left.
    /// - Returns: the refusal, or nil if at least a page was done.
    package func preFaultOnce(_ place: inout UInt64, _ remaining: inout UInt64) throws(KVMError) -> Errno? {
        var payload = tdxd_kvm_pre_fault_memory()
        (payload.gpa, payload.size) = (place, remaining)
        let result = try descriptor.attempt(Ioctls.preFaultMemory.request, at: &payload)
        (place, remaining) = (payload.gpa, payload.size)
        return result < 0 ? Errno(rawValue: -result) : nil
    }
}

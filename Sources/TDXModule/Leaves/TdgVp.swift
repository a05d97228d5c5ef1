internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// TDG.VP.VMCALL (reference §2.6): a TD exit that passes the registers of a mask.
    func tdgVpVmcall(_ r: inout Registers, _ td: TD) -> TDCallOutcome {
        let mask = r.rcx
        var forbidden: UInt64 = 1 << 0 | 1 << 1 | 1 << 4
        let flags = td.details.contents.withLock { $0.parameters.configFlags }
        if flags & 4 != 0 { forbidden |= 1 << 5 }
        if mask & forbidden != 0 || mask >> 32 != 0 { return .completed(.operandInvalid.with(.rcx)) }
        return .exit(.vmcall(registers: r))
    }

    /// TDG.VP.INFO: GPA width, attributes, vCPU counts and index.
    func tdgVpInfo(_ r: inout Registers, _ vcpu: VCPU, _ td: TD) -> TDCallOutcome {
        let parameters = td.details.contents.withLock { $0.parameters }
        r.rcx = parameters.isWide ? 52 : 48
        r.rdx = parameters.attributes
        r.r8 = td.pointee.vcpus.get() & 0xFFFF_FFFF | UInt64(parameters.maxVCPUs) << 32
        r.r9 = UInt64(vcpu.details.contents.withLock { $0.index })
        r.r10 = 0
        r.r11 = 0
        return .completed(.success)
    }

    /// TDG.VP.VEINFO.GET: the exception that the guest's last access raised.
    func tdgVpVeinfoGet(_ r: inout Registers, _ vcpu: VCPU) -> TDCallOutcome {
        let exception = vcpu.details.contents.withLock { contents in
            defer { contents.exception = nil }
            return contents.exception
        }
        guard let exception else { return .completed(.noValidVEInfo) }
        r.rcx = 48
        r.rdx = exception.qualification
        r.r8 = 0
        r.r9 = exception.gpa
        r.r10 = 0
        return .completed(.success)
    }
}

internal import Hashing
internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// TDG.MR.RTMR.EXTEND (reference §2.4): RTMR := SHA-384(RTMR ‖ 48 bytes).
    func tdgMrRtmrExtend(_ r: inout Registers, _ td: TD) -> TDCallOutcome {
        let (gpa, index) = (r.rcx, r.rdx)
        guard gpa & 63 == 0, gpa & td.pointee.forbiddenGPABits.get() == 0, gpa >> 52 == 0 else {
            return .completed(.operandInvalid.with(.rcx))
        }
        guard let (address, key) = translate(gpa, td) else { return .exit(missing(gpa, td, write: false)) }
        guard index <= 3 else { return .completed(.operandInvalid.with(.rdx)) }
        guard td.pointee.rtmrLock.replace(0, by: Sharex.exclusive) else { return .completed(.operandBusy.with(.rtmr)) }
        defer { td.pointee.rtmrLock.minus(Sharex.exclusive) }
        let value = memory.bytes(address, count: 48, key: key)
        td.details.contents.withLock { contents in
            contents.rtmrs[Int(index)] = SHA384.hash(contents.rtmrs[Int(index)] + value)
        }
        return .completed(.success)
    }

    /// TDG.MR.REPORT (reference §2.5): 1,024 bytes that this module can vouch for.
    func tdgMrReport(_ r: inout Registers, _ td: TD) -> TDCallOutcome {
        let (output, input, subtype) = (r.rcx, r.rdx, r.r8)
        let forbidden = td.pointee.forbiddenGPABits.get()
        // Shared buffers are legal, too; the host's EPT, which the model has not, would translate them.
        func isOperand(_ gpa: UInt64) -> Bool { gpa >> 52 == 0 && gpa & forbidden == 0 }
        guard output % 1024 == 0 else { return .completed(.operandInvalid.with(.rcx)) }
        guard input % 64 == 0, isOperand(input) else { return .completed(.operandInvalid.with(.rdx)) }
        guard let (source, key) = translate(input, td) else { return .exit(missing(input, td, write: false)) }
        guard subtype == 0 else { return .completed(.operandInvalid.with(.r8)) }
        guard td.pointee.rtmrLock.replace(0, by: Sharex.exclusive) else { return .completed(.operandBusy.with(.rtmr)) }
        defer { td.pointee.rtmrLock.minus(Sharex.exclusive) }
        if faults.takes(.interrupt) { return .exit(.externalInterrupt) }
        guard isOperand(output) else { return .completed(.operandInvalid.with(.rcx)) }
        guard let (target, _) = translate(output, td) else { return .exit(missing(output, td, write: true)) }
        let information = td.details.contents.withLock { ReportLayout.tdInfo($0) }
        let data = memory.bytes(source, count: 64, key: key)
        memory.store(ReportLayout.report(data: data, tdInfo: information, key: reportKey), at: target, key: key)
        return .completed(.success)
    }

    /// Whether this module, since it was loaded, made a TDREPORT: its MAC and hashes fit.
    public func isOwnReport(_ report: [UInt8]) -> Bool {
        report.count == 1024
            && ReportLayout.report(
                data: Array(report[128..<192]), tdInfo: Array(report[512...]), key: reportKey) == report
    }

    /// A private address that the guest can read and write, as host-physical address and key.
    func translate(_ gpa: UInt64, _ td: TD) -> (address: UInt64, key: KeyID)? {
        let state = TDState(td.pointee.state.get())
        let found = walk(td, gpa, to: 0, root: state.rootLevel)
        guard decode(found.raw).isIn(EntryState.accessibleLeafSet) else { return nil }
        let mask = (UInt64(1) << (12 + 9 * found.level)) - 1
        return (Entry.address(found.raw) & ~mask | gpa & mask, KeyID(state.key))
    }

    /// The exit for a page that a call of the guest needs and cannot reach; a pending one is named so.
    func missing(_ gpa: UInt64, _ td: TD, write: Bool) -> TDExit {
        let state = decode(walk(td, gpa, to: 0, root: TDState(td.pointee.state.get()).rootLevel).raw)
        let isPending = state.isIn(EntryState.acceptableSet)
        return .eptViolation(
            gpa: GuestPhysicalAddress(gpa & ~0xFFF), qualification: write ? 2 : 1,
            extended: isPending ? ExtendedQualification(kind: .pendingViolation) : .none)
    }
}

/// TDREPORT (reference §2.5): REPORTMACSTRUCT 256 bytes, TEE_TCB_INFO 239, padding 17, TDINFO 512.
///
/// TEE_TCB_INFO stays zero: the report comes from no processor and no signed module.
enum ReportLayout {
    static func tdInfo(_ contents: TDContext.Contents) -> [UInt8] {
        var bytes: [UInt8] = []
        func append(_ value: UInt64) {
            for index in 0..<8 { bytes.append(UInt8(truncatingIfNeeded: value >> (8 * UInt64(index)))) }
        }
        append(contents.parameters.attributes)
        append(contents.parameters.xfam)
        bytes += contents.mrtd
        bytes += contents.parameters.mrConfigID
        bytes += contents.parameters.mrOwner
        bytes += contents.parameters.mrOwnerConfig
        for rtmr in contents.rtmrs { bytes += rtmr }
        bytes += contents.serviceHash
        bytes += [UInt8](repeating: 0, count: 512 - bytes.count)
        return bytes
    }

    /// MAC structure: type 0x81 @0, hash of TEE_TCB_INFO @32, hash of TDINFO @80, report data @128, MAC @224.
    static func report(data: [UInt8], tdInfo: [UInt8], key: [UInt8]) -> [UInt8] {
        let tcbInfo = [UInt8](repeating: 0, count: 239)
        var bytes: [UInt8] = [0x81] + [UInt8](repeating: 0, count: 31)
        bytes += SHA384.hash(tcbInfo)
        bytes += SHA384.hash(tdInfo)
        bytes += data
        bytes += [UInt8](repeating: 0, count: 32)
        bytes += HMACSHA256.code(of: bytes, key: key)
        return bytes + tcbInfo + [UInt8](repeating: 0, count: 17) + tdInfo
    }
}

internal import ConfidentialMemory
internal import ControlInterface
internal import KVM
internal import LinuxSystem
internal import MemoryUnits
internal import SystemPackage
internal import TDXStatusCodes

// What the rooms below throw, as the errors of io.tdxd.Holder.

extension ControlError {
    init(_ error: FirmwareRefused) { self = .firmwareRejected(path: error.path, reason: error.reason) }

    init(_ error: OperationRefused, name: String) {
        self = .wrongState(name: name, state: error.state.rawValue, operation: error.operation)
    }

    init(_ error: KVMError) {
        self = .kernelRefused(
            operation: error.operation, errno: error.errno.rawValue, errnoName: error.errno.name,
            tdxStatus: error.status?.hexadecimal, detail: error.detail)
    }

    init(_ error: LinuxError) {
        self = .kernelRefused(
            operation: error.operation, errno: error.errno.rawValue, errnoName: error.errno.name, tdxStatus: nil,
            detail: error.detail)
    }
}

extension ControlError {
    init(_ error: TrustDomainError, name: String) {
        switch error {
        case .invalid(let field, let value, let limit):
            self = .invalidField(field: field, value: value, limit: withoutSentence(limit))
        case .wrongState(let state, let operation):
            self = .wrongState(name: name, state: state.rawValue, operation: operation)
        case .noKeyAvailable(let error):
            // How many there are is not known.
            self = .kernelRefused(
                operation: error.operation, errno: error.errno.rawValue, errnoName: error.errno.name, tdxStatus: nil,
                detail: error.errno == .resourceBusy
                    ? "the control group's limit of key ids, misc.max, is reached" : "no key id is free")
        case .refused(let error):
            self.init(error)
        case .conversion(let incomplete):
            self = .conversionIncomplete(
                gpa: incomplete.range.start.rawValue, doneBytes: (incomplete.end - incomplete.range.start).rawValue,
                bytes: incomplete.range.size.rawValue, reason: "\(incomplete)")
        case .teardown:
            self = .holderFailed(name: name, reason: "\(error)")
        }
    }
}

/// The rooms below write "it must be 48 bytes"; on the wire a limit is what comes after "must be".
func withoutSentence(_ limit: String) -> String {
    let opening = "it must be "
    return limit.hasPrefix(opening) ? String(limit.dropFirst(opening.count)) : limit
}

/// "0x" and 16 digits.
func hexadecimal(_ value: UInt64) -> String {
    let digits = String(value, radix: 16)
    return "0x" + String(repeating: "0", count: 16 - digits.count) + digits
}

/// Two lower-case digits a byte.
func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}

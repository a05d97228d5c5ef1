internal import ControlInterface
internal import LinuxSystem
internal import SystemPackage
internal import Varlink

/// Why a command did not do what was asked, ready to be printed: what happened, how to mend it, how to exit.
struct Failure: Error, Hashable, Sendable {
    var status: ExitStatus
    /// The error's name on the wire, or one of tdxctl's own such as `unavailable`.
    var code: String
    /// One sentence without a full stop.
    var message: String
    /// What to do next; nil where that is not known.
    var hint: String?
}

extension Failure {
    init(_ error: VarlinkClientError) {
        switch error {
        case .reply(let reply):
            self.init(ControlError(reply), code: reply.name)
        case .unavailable(let path, let cause) where [.permissionDenied, .notPermitted].contains(cause.errno):
            self.init(
                status: .notPermitted, code: "not_permitted", message: "you may not use the socket \(path)",
                hint: "run this as root, or as a member of the group that tdxd's configuration names")
        case .unavailable(let path, let cause):
            self.init(
                status: .daemonUnavailable, code: "unavailable",
                message: "tdxd does not answer at \(path) (\(cause.errno.name))",
                hint: cause.errno == .fileNameTooLong
                    ? "a socket path has at most \(UnixSocket.maximumPathLength) bytes"
                    : "start it with “systemctl start tdxd”, or name its socket with --socket or TDXD_SOCKET")
        case .timedOut(let duration):
            self.init(
                status: .tryAgain, code: "timed_out", message: "tdxd was silent for \(formatted(seconds: duration))",
                hint: "it may be busy: look at “systemctl status tdxd” and try again")
        case .disconnected:
            self.init(
                status: .daemonUnavailable, code: "disconnected",
                message: "tdxd closed the connection before it answered",
                hint: "it may have been restarted: TDs survive that; see “tdxctl list” and “journalctl -u tdxd”")
        case .protocolViolation(let reason):
            self.init(
                status: .failed, code: "protocol", message: "tdxd's answer is not understood: \(reason)",
                hint: "tdxctl and tdxd may be of different versions: compare them with “tdxctl version”")
        case .notEncodable(let reason):
            self.init(status: .failed, code: "internal", message: reason, hint: nil)
        case .givenUp:
            self.init(status: .failed, code: "given_up", message: "\(error)", hint: nil)
        case .system(let error):
            self.init(status: .failed, code: "system", message: "\(error)", hint: nil)
        }
    }

    init(_ error: ControlError, code: String) {
        self.init(status: Self.status(of: error), code: code, message: "\(error)", hint: Self.hint(for: error))
    }

    private static func status(of error: ControlError) -> ExitStatus {
        switch error {
        case .invalidField: .usage
        case .noSuchDomain, .noSuchCertificate: .noSuchDomain
        case .notPermitted: .notPermitted
        case .insufficientMemory, .noKeyAvailable, .limitReached: .capacity
        case .tryAgain: .tryAgain
        case .other(let name, _) where name == ServiceError.interface + ".InvalidParameter": .usage
        case .nameTaken, .firmwareRejected, .kernelRefused, .conversionIncomplete, .wrongState, .holderFailed, .other:
            .failed
        }
    }

    private static func hint(for error: ControlError) -> String? {
        switch error {
        case .invalidField(let field, _, _):
            optionName(of: field).map { "on the command line that is \($0)" }
        case .noSuchDomain: "“tdxctl list” shows which TDs there are"
        case .noSuchCertificate: "“tdxctl certificate list” shows which are kept"
        case .nameTaken(let name): "choose another name, or end that one with “tdxctl stop \(name)”"
        case .notPermitted: "run this as root, or as a member of the group that tdxd's configuration names"
        case .insufficientMemory:
            "ask for less memory, wait for it with --wait, or end another TD: “tdxctl list” shows what each one has"
        case .noKeyAvailable:
            "wait with --wait, or end another TD: its key id is free again once its certificate is complete"
        case .limitReached(.trustDomains, _, _, _): "end another TD, or raise trust_domains in the configuration"
        case .limitReached(.disk, _, _, _): "make room on disk: a TD's end could not be certified"
        case .limitReached(.descriptors, _, _, _): "end another TD, or raise LimitNOFILE= of tdxd.service"
        case .limitReached(.waitingCreations, _, _, _): "try again in a while"
        case .firmwareRejected: "a TDVF image is needed, such as /usr/share/ovmf/OVMF.fd of the package ovmf"
        case .kernelRefused("KVM_PRE_FAULT_MEMORY", _, "EOPNOTSUPP", _, _):
            "create it without --prefault; --preallocate gives it all its memory, too, and its guest's first touches map it"
        case .kernelRefused(_, _, _, let tdxStatus?, _): "“tdxctl explain \(tdxStatus)” explains the status"
        case .kernelRefused: "“tdxctl ok” shows what this host offers, “journalctl -u tdxd -k” what happened"
        case .conversionIncomplete: "the rest is as it was: convert it again, or look at it with “tdxctl map”"
        case .wrongState: "“tdxctl show” shows the TD's state"
        case .holderFailed(let name, _):
            "where “tdxctl list” still shows it, “tdxctl stop \(name)” gives its memory and key id back"
        case .tryAgain: "try again in a while"
        case .other: nil
        }
    }
}

/// What tdxctl calls a parameter that is named differently on the wire.
private func optionName(of field: String) -> String? {
    switch field {
    case "memory_bytes": "--memory"
    case "bytes": "--size"
    case "wait_ms": "--wait"
    case "vcpus", "gpa", "policy", "firmware", "mrconfigid", "mrowner", "mrownerconfig", "to": "--\(field)"
    default: nil
    }
}

func formatted(seconds duration: Duration) -> String {
    let milliseconds = duration.milliseconds
    guard milliseconds.magnitude < 1e15 else { return "\(duration)" }
    return milliseconds < 1000 ? "\(Int(milliseconds)) ms" : "\(Int(milliseconds / 1000)) s"
}

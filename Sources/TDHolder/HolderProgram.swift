public import ControlInterface
internal import FoundationEssentials
internal import Glibc
public import Logging
internal import ServiceSupport

/// What the commands of `tdx-holder` do.
public enum HolderProgram {
    /// Serves until the TD has ended.
    public static func serve(_ options: HolderOptions, logLevel: Logger.Level) throws(HolderStartError) {
        ServiceLogHandler.bootstrap(identifier: "tdx-holder", level: logLevel)
        let server = try HolderServer(options, log: Logger(label: "holder"))
        try server.run()
    }

    /// Puts this process under the fence and the serving filter, for good, and tries what they forbid and what they allow.
    /// - Parameter directory: an empty one, for files that are tried; what is made there stays.
    public static func sandboxCheck(in directory: String) throws -> [SandboxTrial] {
        try SandboxTrial.runAll(in: directory)
    }

    /// Reads the host. Changes nothing.
    /// - Parameter device: path of the KVM device.
    public static func probe(_ choice: BackendChoice, device: String = "/dev/kvm") -> HostReport {
        HostReportBuilder(readings: HostReadings.read(device: device).0, choice: choice).report()
    }

    /// - Returns: whether no step failed.
    public static func selfTest(
        _ choice: BackendChoice, device: String = "/dev/kvm", report: @escaping (SelfTestStep) -> Void
    ) -> Bool {
        SelfTest.run(choice, device: device, report: report)
    }

    /// One line of JSON.
    public static func json(_ value: some Encodable) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            return String(decoding: try encoder.encode(value), as: UTF8.self)
        } catch {
            preconditionFailure("the report does not encode: \(error)")
        }
    }

    /// The report for people.
    public static func text(_ report: HostReport) -> String {
        var lines = report.checks.map { check in
            "\(label(check.result))  \(check.title): \(check.evidence)" + (check.hint.map { "\n      \($0)" } ?? "")
        }
        lines.append("backend \(report.backend.rawValue)\(report.emulated ? " (emulated TDX module)" : "")")
        return lines.joined(separator: "\n")
    }

    /// One step for people.
    public static func text(_ step: SelfTestStep) -> String {
        "\(label(step.result))  \(step.name): \(step.evidence)"
    }

    /// Writes a line at once, whole, also into a pipe.
    public static func printLine(_ line: String) { put(line, 1) }

    /// The same on standard error.
    public static func printError(_ line: String) { put(line, 2) }

    private static func put(_ line: String, _ descriptor: Int32) {
        let bytes = Array((line + "\n").utf8)
        bytes.withUnsafeBytes { bytes in
            var rest = bytes[...]
            while !rest.isEmpty {
                let count = write(descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
                if count < 0, errno != EINTR { return }
                rest = rest.dropFirst(max(count, 0))
            }
        }
    }

    private static func label(_ result: CheckResult) -> String {
        switch result {
        case .pass: "PASS"
        case .skip: "SKIP"
        case .fail: "FAIL"
        }
    }
}

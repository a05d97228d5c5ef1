internal import ControlInterface
internal import LinuxSystem
internal import SystemPackage

extension Ending {
    /// Waits until the last will of a holder that has died is over, and takes down what came of it.
    ///
    /// - Parameter patience: nothing is punched meanwhile, so it is bounded.
    mutating func awaitLastWill(at path: String, patience: Duration) {
        let start = MonotonicInstant.now
        do throws(LinuxError) {
            guard let reading = try LastWillRecord.read(at: path, patience: patience) else { return }
            take(reading, waited: MonotonicInstant.now.milliseconds(since: start))
        } catch {
            phases.append(
                TeardownPhase(
                    name: .lastWill, milliseconds: MonotonicInstant.now.milliseconds(since: start),
                    detail: "its record cannot be read, so nobody knows whether it acted: \(error)"))
        }
    }

    /// Says nothing of a will that had nothing to do.
    mutating func take(_ reading: LastWillRecord.Reading, waited: Double) {
        let record = reading.record
        switch record.state {
        case _ where !reading.isFinal:
            phases.append(
                TeardownPhase(
                    name: .lastWill, milliseconds: waited,
                    detail: "process \(record.pid) has not ended; it is not waited for any longer"))
        case .standingBy, .notNeeded: break
        case .armed:
            phases.append(
                TeardownPhase(
                    name: .lastWill, milliseconds: waited,
                    detail: "process \(record.pid) did not act: it had been killed, too"))
        case .acted:
            if record.result >= 0, !record.isRehearsal { path = .terminateFirst }
            phases.append(
                TeardownPhase(
                    name: .lastWill, milliseconds: record.done.milliseconds(since: record.noticed),
                    calls: UInt64(record.attempts), detail: Self.words(of: record)))
        }
    }

    private static func words(of record: LastWillRecord) -> String {
        let answer =
            record.result >= 0
            ? "answered \(record.result)"
            : "refused: \(LinuxError("ioctl", Errno(rawValue: -record.result)).description)"
        if record.isRehearsal {
            return "rehearsal by process \(record.pid): KVM_CHECK_EXTENSION was \(answer); nothing was terminated"
        }
        let status = record.status == 0 ? "" : ", TDX status 0x\(String(record.status, radix: 16))"
        return "process \(record.pid): KVM_TDX_TERMINATE_VM was \(answer)\(status)"
    }
}

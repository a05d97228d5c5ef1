internal import ConfidentialMemory
internal import ControlInterface
internal import LinuxSystem
internal import Logging
internal import ServiceSupport
internal import Synchronization

/// Tells the journal of a TD's conversions that fail, with those that led there, and of storms. A guest can make both
/// happen as often as it likes: each conversion is logged once at most, and a few events a minute.
final class ConversionJournal: Sendable {
    private let log: Logger
    private let limiter: LogRateLimiter
    /// The number of the last conversion that was logged.
    private let told = Mutex<UInt64>(0)

    /// - Parameter log: with the TD's name and id.
    init(log: Logger, limiter: LogRateLimiter = LogRateLimiter(burst: 3, interval: .seconds(60))) {
        self.log = log
        self.limiter = limiter
    }

    /// Writes to the journal, which takes its time: up to a thousand entries. Not on a thread that converts.
    func note(_ event: ConversionEvent, _ observer: ConversionObserver) {
        switch event {
        case .failed(let record): failed(record, observer)
        case .stormBegan(let storm): stormBegan(storm, observer)
        }
    }

    private func failed(_ record: ConversionRecord, _ observer: ConversionObserver) {
        guard let unlogged = admitted("failure") else { return }
        let clocks = ClockPair()
        let before = told.withLock { told in
            let before = observer.records(after: told).filter { $0.number < record.number }
            told = max(told, record.number)
            return before
        }
        var metadata = Self.metadata(ConversionAccount(record, clocks))
        metadata["before"] = "\(before.count)"
        metadata["unlogged"] = "\(unlogged)"
        log.error("a conversion has failed", metadata: metadata)
        for earlier in before {
            log.notice(
                "a conversion before the failure", metadata: Self.metadata(ConversionAccount(earlier, clocks)))
        }
    }

    private func stormBegan(_ storm: StormStatus, _ observer: ConversionObserver) {
        guard let unlogged = admitted("storm") else { return }
        let report = observer.report(last: 0)
        var metadata: Logger.Metadata = [
            "conversions": "\(storm.rule.conversions)", "window_ms": "\(storm.rule.milliseconds)",
            "storms": "\(storm.storms)", "to_private": "\(report.toPrivate.count)",
            "to_shared": "\(report.toShared.count)", "unlogged": "\(unlogged)",
        ]
        if let hottest = report.hottest.first {
            metadata["hottest_gpa"] = "\(hottest.address)"
            metadata["hottest_conversions"] = "\(hottest.conversions)"
        }
        log.warning("conversions have become a storm", metadata: metadata)
    }

    /// How many events of the kind were left out before this one; nil where this one is, too.
    private func admitted(_ kind: String) -> Int? {
        limiter.admit(kind, now: MonotonicInstant.now - MonotonicInstant(nanoseconds: 0))
    }

    private static func metadata(_ account: ConversionAccount) -> Logger.Metadata {
        var metadata: Logger.Metadata = [
            "number": "\(account.number)", "ended_at": "\(account.endedAt)", "gpa": "\(hexadecimal(account.gpa))",
            "bytes": "\(account.bytes)", "to": "\(account.to.rawValue)", "origin": "\(account.origin.rawValue)",
            "requests": "\(account.requests)", "changed_bytes": "\(account.changedBytes)",
            "discarded_bytes": "\(account.discardedBytes)", "microseconds": "\(account.microseconds)",
            "outcome": "\(account.outcome.rawValue)", "done_bytes": "\(account.doneBytes)",
        ]
        if let reason = account.reason { metadata["reason"] = "\(reason)" }
        return metadata
    }
}

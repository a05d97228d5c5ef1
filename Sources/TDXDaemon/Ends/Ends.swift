internal import ControlInterface
internal import DomainEnd
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import ServiceSupport
internal import Synchronization
internal import TDXStatusCodes
internal import Terms

/// One TD's end while it is under way.
struct EndWork: Sendable {
    var report: EndReport
    /// Clients that wait for what comes of it.
    var watchers: [StopWatcher] = []
    /// What the machine has decided on and is not done yet.
    var queue: [EndAction] = []
    /// A thread does what is in the queue.
    var isBusy = false
    /// A former tdxd, or none, was there when it began.
    var isResumed = false
    /// When the holder last did what it should, or could not be asked.
    var lastSign = MonotonicInstant.now
    var lastProgress: Progress?
    /// Of the last call that failed.
    var lastFailure: ControlError?
    /// Before the holder is asked again.
    var askingPause = EndWork.shortestPause
    /// When tdxd began to wait for the holder's process or its last will, or to look at the host.
    var waitingSince: MonotonicInstant?
    var lookPause = Duration.milliseconds(1)
    /// Of the last look at the host.
    var proofs: [TeardownProof] = []
    var certificate: TeardownCertificate?

    static let shortestPause = Duration.milliseconds(20)
    static let longestPause = Duration.milliseconds(500)

    init(_ report: EndReport) { self.report = report }
}

/// The state of all ends: what is under way, and the threads for what blocks.
final class EndBooks: Sendable {
    /// Key: the TD's id. Taken before the manager's own lock, never after it.
    let works = Mutex<[String: EndWork]>([:])
    /// For what blocks: files, looks into processes, punches. Waiting for a holder, a process or a time takes no thread; further
    /// ends wait in their machines.
    let pool = WorkerPool(name: "end", limit: 16)
}

/// The owner of ends: carries out what each TD's `EndMachine` decides, and hands in what comes of it.
///
/// Actions of one TD are done one after another, on a thread of the pool. What waits – an answer of the holder, the end of its
/// process, a time – waits on the event loop.
struct Ends: Sendable {
    let manager: Manager

    var books: EndBooks { manager.endBooks }
    var loop: EventLoop { manager.loop }
    var log: Logger { manager.log }
    var configuration: TDXDConfiguration { manager.configuration }

    // MARK: Events

    /// Lets the machine decide, and has what it decides done.
    ///
    /// - Parameters:
    ///   - inline: what is to be done is done before this returns, unless another thread is at it.
    ///   - change: of what is known of the end; gets the machine as it was, and what it has decided.
    /// - Returns: what it has decided; nothing for a TD that is not there.
    @discardableResult
    func handle(
        _ event: EndEvent, _ id: String, inline: Bool = false,
        _ change: (inout EndWork, _ before: EndMachine, _ actions: [EndAction]) -> Void = { _, _, _ in }
    ) -> [EndAction] {
        let (actions, starts) = books.works.withLock { works in
            manager.core.withLock { core in
                guard let domain = core.registry[id] else { return ([EndAction](), false) }
                var work = works[id] ?? EndWork(EndReport(resuming: domain.record))
                let actions = core.registry.handle(event, id: id)
                work.report.record = domain.record
                change(&work, domain.end, actions)
                if let end = core.registry[id]?.end { work.report.holderDied = end.holderDied }
                work.queue += actions.filter { !Self.isAnswer($0) }
                guard works[id] != nil || !work.queue.isEmpty else { return (actions, false) }
                let starts = !work.isBusy && !work.queue.isEmpty
                if starts { work.isBusy = true }
                works[id] = work
                return (actions, starts)
            }
        }
        if starts {
            if inline { run(id) } else { books.pool.submit { run(id) } }
        }
        return actions
    }

    /// What the caller does itself, at once.
    private static func isAnswer(_ action: EndAction) -> Bool {
        switch action {
        case .refuse, .answerKnown, .join: true
        default: false
        }
    }

    /// Takes an end over that a former tdxd has left, with what is to be done first.
    /// - Parameter inline: they are done before this returns.
    func resume(
        _ domain: Registry.Domain, _ actions: [EndAction], inline: Bool, _ change: (inout EndWork) -> Void = { _ in }
    ) {
        let id = domain.record.id
        books.works.withLock { works in
            var work = EndWork(EndReport(resuming: domain.record))
            work.report.holderDied = domain.end.holderDied
            work.isResumed = true
            work.queue = actions
            work.isBusy = true
            change(&work)
            works[id] = work
        }
        if inline { run(id) } else { books.pool.submit { run(id) } }
    }

    /// What is known of an end that is under way.
    func work(_ id: String) -> EndWork? { books.works.withLock { $0[id] } }

    func change(_ id: String, _ body: (inout EndWork) -> Void) {
        books.works.withLock { works in if works[id] != nil { body(&works[id]!) } }
    }

    func domain(_ id: String) -> Registry.Domain? { manager.core.withLock { $0.registry[id] } }

    func holder(_ id: String) -> LiveHolder? { manager.core.withLock { $0.holders[id] } }

    /// Ends that tdxd or a holder is at.
    var underWay: Int {
        manager.core.withLock { core in core.registry.domains.values.count { $0.end.isMoving } } + books.pool.count
    }

    /// A thread does something for an end at this moment.
    var isBusy: Bool { books.works.withLock { works in works.contains { $0.value.isBusy } } }

    // MARK: Actions

    /// Does what is in the queue, until there is nothing left in it.
    private func run(_ id: String) {
        while let action = next(id) { perform(action, id) }
    }

    private func next(_ id: String) -> EndAction? {
        books.works.withLock { works in
            guard var work = works[id] else { return nil }
            defer { works[id] = work }
            if !work.queue.isEmpty { return work.queue.removeFirst() }
            work.isBusy = false
            return nil
        }
    }

    private func perform(_ action: EndAction, _ id: String) {
        switch action {
        case .refuse, .answerKnown, .join: break
        case .holdKey: manager.core.withLock { $0.ledger.mark(.draining, holder: id) }
        case .useKey:
            manager.core.withLock { $0.ledger.mark(.inUse, holder: id) }
            if domain(id)?.end.stage == .runnable { drop(id) }
        case .giveKeyBack: manager.core.withLock { _ = $0.ledger.giveBack(holder: id) }
        case .writeRecord: writeRecord(id)
        case .removeRecord: removeRecord(id)
        case .writeCertificate(let verdict): writeCertificate(verdict, id)
        case .answerHalted: answerHalted(id)
        case .answerRefused: answerRefused(id)
        case .askHolderToHalt: loop.perform { askToHalt(id) }
        case .askHolderForMemory: loop.perform { askForMemory(id) }
        case .askHolderForProgress: loop.perform { askForProgress(id) }
        case .askAgainLater: loop.perform { askAgainLater(id) }
        case .fetchDuplicates: fetchDuplicates(id)
        case .awaitExit: awaitExit(id)
        case .terminateHolder: holder(id)?.process?.terminate()
        case .killHolder: holder(id)?.process?.kill()
        case .readHolderRecord: readHolderRecord(id)
        case .returnMemory: returnMemory(id)
        case .keepMemory: keepMemory(id)
        case .closeDuplicates: if let holder = holder(id) { manager.letGo(holder) }
        case .look: look(id)
        case .lookSoon: lookAgain(id, after: nil)
        case .lookLater: lookAgain(id, after: Self.lookInterval)
        case .listAsFailed, .listAsOpen, .listAsQuarantined: list(id)
        case .forget: forget(id)
        }
    }

    /// Forgets what was known of an end that is none any more.
    private func drop(_ id: String) {
        change(id) { work in
            var fresh = EndWork(EndReport(resuming: work.report.record))
            fresh.queue = work.queue
            fresh.isBusy = work.isBusy
            fresh.watchers = work.watchers
            fresh.lastFailure = work.lastFailure
            work = fresh
        }
    }

    // MARK: The record

    /// Writes the record as it is now: a later call never writes an older one.
    func writeRecord(_ id: String) {
        guard let holder = holder(id) else { return }
        holder.recordWriting.withLock { _ in
            let record: DomainRecord? = books.works.withLock { works in
                manager.core.withLock { core in
                    guard let domain = core.registry[id] else { return nil }
                    var record = domain.record
                    record.set(domain.end.note, works[id]?.report)
                    core.registry.update(id: id, record: record)
                    return record
                }
            }
            guard let record else { return }
            do throws(ControlError) { try manager.write(record, in: holder.directory) } catch {
                log.warning(
                    "what is known of an end cannot be kept for the next tdxd",
                    metadata: error.fields(["td": "\(record.name)"]))
            }
        }
    }

    private func removeRecord(_ id: String) {
        guard let record = domain(id)?.record, let holder = holder(id) else { return }
        do throws(LinuxError) { try DirectoryTree.remove(holder.directory) } catch {
            log.error("a holder's directory cannot be removed", metadata: ["reason": "\(error)"])
        }
        manager.groups?.remove(record.name)
        if let pid = holder.process?.pid { manager.events.forget(process: pid) }
    }

    // MARK: Lists and answers

    /// Lists the TD with its certificate, and answers those who wait.
    private func list(_ id: String) {
        guard let work = work(id), let domain = domain(id) else { return }
        let certificate = work.certificate ?? domain.certificate
        let reason = Self.reason(domain, work, certificate)
        manager.core.withLock { core in
            core.registry.empty(id: id)
            core.registry.list(id: id, certificate: certificate, reason: reason)
            if core.registry[id]?.end.stage == .failed { core.holders[id] = nil }
        }
        if domain.end.stage == .quarantined, !domain.end.isUnreadable {
            tellQuarantine(domain.record, work.report, isKept: holder(id)?.backing != nil)
        }
        answer(id, certificate)
    }

    private static func reason(
        _ domain: Registry.Domain, _ work: EndWork, _ certificate: TeardownCertificate?
    ) -> String? {
        if domain.end.isUnreadable { return domain.reason }
        if domain.end.stage == .quarantined { return "quarantined: \(work.report.quarantine ?? "")" }
        guard let certificate, !certificate.complete else { return domain.reason }
        let open = certificate.proofs.filter { !$0.holds }.map(\.name).joined(separator: ", ")
        let why = certificate.failure ?? "not proven: \(open)"
        return domain.end.stage == .failed ? (domain.reason.map { "\($0); \(why)" } ?? why) : why
    }

    private func forget(_ id: String) {
        let certificate = work(id)?.certificate ?? domain(id)?.certificate
        manager.core.withLock { core in
            core.registry.forget(id: id)
            core.holders[id] = nil
        }
        answer(id, certificate)
        books.works.withLock { $0[id] = nil }
    }

    private func answer(_ id: String, _ certificate: TeardownCertificate?) {
        guard let certificate else { return }
        for watcher in takeWatchers(id) { watcher.answer(certificate) }
    }

    func takeWatchers(_ id: String) -> [StopWatcher] {
        var watchers: [StopWatcher] = []
        change(id) { work in
            watchers = work.watchers
            work.watchers = []
        }
        return watchers
    }

    /// Answers with what is known when the TD runs no more; the rest comes later.
    private func answerHalted(_ id: String) {
        guard let work = work(id), let domain = domain(id) else { return }
        let isHeld = domain.end.stage == .held
        let pace = work.report.bytesPerSecond.map { "at most \(ByteCount($0)) a second" }
        let pending =
            isHeld
            ? "the memory is held: “tdxctl reclaim \(domain.record.name)” gives it back"
            : "the memory is being given back" + (pace.map { ", \($0)" } ?? "")
        var certificate = work.report.certificate([], pending: pending)
        do {
            try manager.store.write(certificate, keeping: manager.listedCertificates)
        } catch {
            certificate = work.report.certificate(
                [], pending: pending + "; this certificate could not be written: \(error)")
            log.error(
                "a certificate could not be written", metadata: ["td": "\(domain.record.name)", "reason": "\(error)"])
        }
        manager.core.withLock { core in
            guard core.registry[id]?.state == .draining else { return }
            core.registry.list(id: id, certificate: certificate, reason: pending)
        }
        log.info(
            "a TD runs no more",
            metadata: [
                "td": "\(domain.record.name)", "id": "\(id)", "path": "\(work.report.path)", "pending": "\(pending)",
            ])
        answer(id, certificate)
    }

    private func answerRefused(_ id: String) {
        guard let domain = domain(id) else { return }
        let error = work(id)?.lastFailure ?? .holderFailed(name: domain.record.name, reason: "it refuses")
        for watcher in takeWatchers(id) { watcher.refuse(error) }
        books.works.withLock { works in if works[id]?.queue.isEmpty == true { works[id] = nil } }
    }

    /// Answers those who wait with what is known now; the end goes on.
    func answerEarly(_ id: String, because reason: String, _ watchers: [StopWatcher]) {
        guard let work = work(id) else { return }
        let last = work.report.phases.last.map { " after phase \($0.name)" } ?? ""
        // Not written: the final one may be on its way to the same place.
        let certificate = work.report.certificate(
            [],
            pending: "\(reason)\(last); the end goes on, and “tdxctl certificate show \(id)” shows what comes of it")
        handle(.deadlinePassed, id)
        manager.core.withLock { core in
            guard let end = core.registry[id]?.end, end.isMoving, end.isAnswered else { return }
            core.registry.list(id: id, certificate: certificate, reason: certificate.pending)
        }
        for watcher in watchers { watcher.answer(certificate) }
    }

    /// Answers when the deadline is over, with what is known by then.
    func arm(_ deadline: Duration, _ id: String, _ watcher: StopWatcher) {
        loop.perform {
            loop.schedule(after: deadline) {
                guard !watcher.isAnswered else { return }
                answerEarly(id, because: "the deadline of \(deadline.inWords) has passed", [watcher])
            }
        }
    }

    /// Loud: the host has to be restarted some day.
    func tellQuarantine(_ record: DomainRecord, _ report: EndReport, isKept: Bool) {
        var metadata: Logger.Metadata = [
            "td": "\(record.name)", "id": "\(record.id)", "key_id": "\(record.keyID)",
            "reason": "\(report.quarantine ?? "")", "emulated": "\(record.backend?.isEmulated ?? false)",
            "memory_is_kept": "\(isKept)",
        ]
        if let status = report.failures.status {
            metadata["tdx_status"] = "\(status)"
            metadata["tdx_status_name"] = "\(TDXStatus(hexadecimal: status)?.name ?? "unknown")"
        }
        log.critical("a TD is quarantined", metadata: metadata)
    }
}

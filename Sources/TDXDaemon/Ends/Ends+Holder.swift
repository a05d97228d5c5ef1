internal import ControlInterface
internal import DomainEnd
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import ServiceSupport
internal import Synchronization
internal import Terms

/// The calls to a holder during an end, and how its process ends. On the event loop unless stated otherwise.
extension Ends {
    /// How long a holder may take to end after its last answer, and a killed one: the kernel may have much to tear down.
    private static let exitTimeout = Duration.seconds(10)
    static let killTimeout = Duration.seconds(30)
    /// How long the answer to a question takes at most.
    private static let questionTimeout = Duration.seconds(2)

    // MARK: Calls

    func askToHalt(_ id: String) {
        guard let work = work(id), let holder = holder(id), let domain = domain(id) else { return }
        log.info(
            "stopping a TD",
            metadata: ["td": "\(domain.record.name)", "id": "\(id)", "policy": "\(work.report.policy)"])
        change(id) { $0.lastSign = .now }
        holder.link.askToHalt(
            StopPolicy(rawValue: work.report.policy) ?? .auto, silence: configuration.deadlines.stop, on: loop,
            progress: { progressed(id, $0) }
        ) { result in
            switch result {
            case .success(let reply):
                handle(.halted(EndReport.failures(of: reply).kept), id) { work, _, _ in
                    work.report.take(reply)
                }
            case .failure(let failure): failed(id, failure)
            }
        }
    }

    func askForMemory(_ id: String) {
        guard let work = work(id), let holder = holder(id), let domain = domain(id) else { return }
        if domain.end.isAnswered {
            log.info("giving a TD's memory back", metadata: ["td": "\(domain.record.name)", "id": "\(id)"])
        }
        change(id) { $0.lastSign = .now }
        holder.link.askForMemory(
            .init(bytesPerSecond: work.report.bytesPerSecond, chunkBytes: work.report.chunkBytes),
            silence: configuration.deadlines.stop, on: loop, progress: { progressed(id, $0) }
        ) { result in
            switch result {
            case .success(let reply):
                let kept = EndReport.failures(of: reply).kept
                handle(.released(kept, isWithheld: reply.withheld == true), id) { work, _, _ in
                    work.report.take(reply)
                }
            case .failure(let failure): failed(id, failure)
            }
        }
    }

    func askForProgress(_ id: String) {
        guard let holder = holder(id) else { return }
        let deadlines = configuration.deadlines
        let timeout = min(deadlines.holderReply, deadlines.stop, Self.questionTimeout)
        holder.link.askForProgress(timeout: timeout, on: loop) { result in
            switch result {
            case .success(let description): answered(id, holder, description)
            case .failure(let failure): failed(id, failure)
            }
        }
    }

    private func answered(_ id: String, _ holder: LiveHolder, _ description: HolderInterface.Description) {
        if let step = description.ending { progressed(id, step) }
        let progress = HolderProgress(description.state)
        if progress != .ending {
            change(id) { work in
                work.lastSign = .now
                work.askingPause = EndWork.shortestPause
            }
        } else if isSilentTooLong(id) {
            // It answers, and gets nowhere.
            handle(.silentTooLong, id)
            return
        }
        guard progress == .runnable || progress == .halted, holder.backing == nil else {
            handle(.holderSays(progress), id)
            return
        }
        // Before it is asked for more: with duplicates tdxd can go on without it.
        books.pool.submit {
            manager.adoptBacking(of: holder, description)
            handle(.holderSays(progress), id)
        }
    }

    func askAgainLater(_ id: String) {
        guard let work = work(id) else { return }
        change(id) { $0.askingPause = min(work.askingPause * 2, EndWork.longestPause) }
        loop.schedule(after: work.askingPause) { handle(.askAgainDue, id) }
    }

    private func failed(_ id: String, _ failure: HolderCallFailed) {
        guard let domain = domain(id) else { return }
        // It is asked twice a second: the same answer is logged once.
        if work(id)?.lastFailure != failure.error {
            log.error(
                "a holder did not stop its TD",
                metadata: failure.error.fields(
                    ["td": "\(domain.record.name)", "id": "\(id)", "kind": "\(failure.kind.rawValue)"]))
        }
        change(id) { work in
            work.lastFailure = failure.error
            // A failed attempt to ask gives no information on the holder.
            if failure.kind == .refused || failure.kind == .unreachable { work.lastSign = .now }
        }
        let isTooLong = failure.kind == .silent && domain.end.stage == .asking && isSilentTooLong(id)
        handle(isTooLong ? .silentTooLong : .failed(failure.kind), id)
        answerIfLate(id, failure)
    }

    /// Clients do not wait for ever for a holder that refuses.
    private func answerIfLate(_ id: String, _ failure: HolderCallFailed) {
        guard failure.kind != .silent, let work = work(id), !work.watchers.isEmpty, domain(id)?.end.stage == .asking,
            MonotonicInstant.now - work.report.start > configuration.deadlines.stop
        else { return }
        answerEarly(id, because: "the holder does not do its part: \(failure.error)", takeWatchers(id))
    }

    private func isSilentTooLong(_ id: String) -> Bool {
        guard let work = work(id) else { return false }
        return MonotonicInstant.now - work.lastSign >= configuration.deadlines.stop
    }

    private func progressed(_ id: String, _ step: Progress) {
        var watchers: [StopWatcher] = []
        change(id) { work in
            if work.lastProgress != step { work.lastSign = .now }
            work.lastProgress = step
            watchers = work.watchers
        }
        for watcher in watchers { watcher.report(step) }
    }

    /// Lets memory that is on its way come at another pace. From any thread.
    func setPace(_ id: String, _ bytesPerSecond: UInt64?) {
        change(id) { $0.report.bytesPerSecond = bytesPerSecond }
        loop.perform {
            sendPace(id, bytesPerSecond)
            // Once more: the call that has the memory come may only just have set its own.
            loop.schedule(after: .milliseconds(500)) { sendPace(id, bytesPerSecond) }
        }
    }

    private func sendPace(_ id: String, _ bytesPerSecond: UInt64?) {
        guard let end = domain(id)?.end, end.stage == .releasing || end.stage == .asking,
            work(id)?.report.bytesPerSecond == bytesPerSecond
        else { return }
        holder(id)?.link.askForPace(bytesPerSecond, timeout: .seconds(2), on: loop)
    }

    // MARK: Its process

    /// A holder's process has ended. More than once does no harm. From any thread.
    func holderEnded(_ holder: LiveHolder, _ exit: String) {
        let id = holder.id
        let isAttached = holder.process?.isAttached == true
        let inOrder = !isAttached && !holder.hasSocket
        var before: EndMachine?
        handle(.holderGone(inOrder: inOrder), id) { work, machine, _ in
            guard !machine.holderIsGone else { return }
            before = machine
            Self.take(exit, inOrder: inOrder, &work, machine)
        }
        guard let before, let domain = domain(id) else { return }
        switch before.stage {
        case .building, .clearing:
            manager.core.withLock { $0.registry.setReason(id: id, exit) }
            if isAttached { manager.workers.submit { manager.dropAttached(holder, exit) } }
        case .runnable, .held:
            manager.core.withLock { $0.registry.setReason(id: id, exit) }
            log.error(
                "a holder has died; its TD is failed and is being reaped",
                metadata: ["td": "\(domain.record.name)", "id": "\(id)", "reason": "\(exit)"])
        default: break
        }
    }

    private static func take(_ exit: String, inOrder: Bool, _ work: inout EndWork, _ machine: EndMachine) {
        let waited = work.waitingSince.map { MonotonicInstant.now.milliseconds(since: $0) } ?? 0
        func add(_ name: EndPhase, _ milliseconds: Double, _ detail: String) {
            work.report.phases.append(TeardownPhase(name: name, milliseconds: milliseconds, detail: detail))
        }
        switch machine.stage {
        case .runnable, .held: add(.death, 0, exit)
        case .halting, .releasing, .asking, .dying:
            if !inOrder || machine.stage == .dying { add(.holderLost, 0, work.lastFailure.map { "\($0)" } ?? exit) }
            add(.exit, waited, work.isResumed ? "begun before tdxd was started; \(exit)" : exit)
        case .fetching, .leaving:
            add(.exit, waited, work.isResumed ? "begun before tdxd was started; \(exit)" : exit)
        default: break
        }
    }

    /// On a thread of the pool.
    func awaitExit(_ id: String) {
        guard let stage = domain(id)?.end.stage, let holder = holder(id) else { return }
        change(id) { $0.waitingSince = $0.waitingSince ?? .now }
        loop.perform {
            loop.schedule(after: stage == .dying ? Self.killTimeout : Self.exitTimeout) {
                exitIsOverdue(id, holder)
            }
        }
    }

    private func exitIsOverdue(_ id: String, _ holder: LiveHolder) {
        handle(.exitOverdue, id) { work, machine, actions in
            guard actions.contains(.readHolderRecord), let process = holder.process else { return }
            let waited = work.waitingSince.map { MonotonicInstant.now.milliseconds(since: $0) } ?? 0
            work.report.phases.append(
                TeardownPhase(
                    name: .exit, milliseconds: waited,
                    detail: process.isAttached
                        ? "process \(process.pid), which had attached the TD, goes on"
                        : "the holder's process does not end"))
        }
    }

    /// On a thread of the pool; blocks for the holder's answers.
    func fetchDuplicates(_ id: String) {
        guard let holder = holder(id) else { return }
        if holder.backing == nil,
            let description = try? holder.link.describe(timeout: configuration.deadlines.holderReply)
        {
            manager.adoptBacking(of: holder, description)
        }
        handle(.duplicatesFetched(holder.backing != nil), id)
    }

    /// Reads what the holder has written down, once its last will is over. What is punched before a will has acted is removed
    /// from a living TD; the will of a holder that ended in order has nothing to do, but is in the TD's control group until it
    /// has seen that. On a thread of the pool.
    func readHolderRecord(_ id: String) {
        guard let holder = holder(id) else { return }
        change(id) { $0.waitingSince = .now }
        readLastWill(id, holder, until: .now + configuration.deadlines.holderReply)
    }

    private func readLastWill(_ id: String, _ holder: LiveHolder, until deadline: MonotonicInstant) {
        let path = HolderPlaces.lastWill(in: holder.directory)
        let reading: Result<LastWillRecord.Reading?, LinuxError>
        do throws(LinuxError) { reading = .success(try LastWillRecord.read(at: path, patience: .zero)) } catch {
            reading = .failure(error)
        }
        if case .success(.some(let found)) = reading, !found.isFinal, MonotonicInstant.now < deadline {
            loop.perform {
                loop.schedule(after: .milliseconds(5)) {
                    books.pool.submit { readLastWill(id, holder, until: deadline) }
                }
            }
            return
        }
        guard var report = work(id)?.report else { return }
        report.takeHolderRecord(in: holder.directory)
        let kept = report.kept
        handle(.recordRead(kept), id) { work, _, _ in
            work.report.takeHolderRecord(in: holder.directory)
            work.takeLastProgress()
            let waited = work.waitingSince.map { MonotonicInstant.now.milliseconds(since: $0) } ?? 0
            switch reading {
            case .success(.none): break
            case .success(.some(let found)): work.report.take(found, waited: waited)
            case .failure(let error): work.report.takeUnreadableLastWill(error, waited: waited)
            }
            work.waitingSince = nil
        }
    }
}

extension EndWork {
    /// What was last heard of memory that came back, where the holder has not said how much it was; it may be more.
    fileprivate mutating func takeLastProgress() {
        guard !report.phases.contains(where: { $0.name == .release }), let last = lastProgress,
            last.phase == EndPhase.release.rawValue || last.phase == EndPhase.close.rawValue, isResumed
        else { return }
        report.releasedBytes = max(report.releasedBytes, last.doneBytes)
    }
}

extension HolderProgress {
    init(_ state: HolderInterface.State) {
        self =
            switch state {
            case .runnable: .runnable
            case .building, .stopping: .ending
            case .halted: .halted
            case .empty, .failed, .released: .ended
            }
    }
}

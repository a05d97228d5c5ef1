internal import ControlInterface
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import ServiceSupport
internal import Synchronization

/// Ends that are answered before they are over: memory that is held, given back at a pace, or late.
extension Manager {
    /// Gives the memory of a stopped TD back, or changes the pace at which it comes. Blocks until the end is proven, or as
    /// much of it as ever will be.
    ///
    /// - Throws: `noSuchDomain`, or `wrongState` unless the TD's memory is held or on its way; nothing is changed then.
    func reclaim(
        _ order: ReclaimOrder, as principal: Principal = .admin, _ watcher: StopWatcher
    ) throws(ControlError) {
        let decision = try core.withLock {
            (core: inout sending Core) throws(ControlError) -> Registry.ReclaimDecision in
            try principal.check(try core.registry.find(name: order.name).record, "reclaim")
            return try core.registry.beginReclaim(name: order.name)
        }
        switch decision {
        case .reclaim(let domain): reclaim(domain, pace: order.pace, chunk: order.chunk, watcher)
        case .hurry(let domain): try hurry(domain, order, principal, watcher)
        }
    }

    /// - Parameter domain: its memory is held no more, and this thread is at it.
    func reclaim(_ domain: Registry.Domain, pace: UInt64?, chunk: UInt64?, _ watcher: StopWatcher) {
        let (ending, holder) = core.withLock { ($0.endings[domain.record.id], $0.holders[domain.record.id]) }
        guard var ending, let holder else { preconditionFailure("a held TD has an ending and a holder") }
        log.info(
            "giving held memory back", metadata: ["td": "\(domain.record.name)", "id": "\(domain.record.id)"])
        ending.record.stop?.isHeld = false
        ending.record.stop?.bytesPerSecond = pace
        // The next tdxd would hold it again otherwise.
        try? write(ending.record, in: holder.directory)
        giveBack(ending, holder, pace: pace, chunk: chunk, aftermath: .forget, watcher)
    }

    /// Changes the pace of what another worker is at, and waits for it.
    private func hurry(
        _ domain: Registry.Domain, _ order: ReclaimOrder, _ principal: Principal, _ watcher: StopWatcher
    ) throws(ControlError) {
        let id = domain.record.id
        let holder = core.withLock { $0.holders[id] }
        var next = MonotonicInstant.now
        while let now = core.withLock({ $0.registry[id] }), now.isEnding {
            if next <= .now, let holder {
                // Again and again: the other worker may only just have told its own. Past giving back it is refused.
                try? holder.link.setPace(order.pace, timeout: .seconds(1))
                if let step = try? holder.link.describe(timeout: .seconds(1)).ending { watcher.report(step) }
                next = .now.adding(milliseconds: 500)
            }
            Self.sleep(milliseconds: 20)
        }
        if core.withLock({ $0.registry[id]?.isHeld == true }) { return try reclaim(order, as: principal, watcher) }
        guard let certificate = try? store.read(name: domain.record.name, id: id) else {
            throw .noSuchCertificate(certificate: id)
        }
        watcher.answer(certificate)
    }

    /// Answers with what is known when the TD runs no more, and leaves the rest for later.
    func answerHalted(_ ending: Ending, _ holder: LiveHolder, isHeld: Bool, _ watcher: StopWatcher) {
        let id = ending.record.id
        let pace = ending.record.stop?.bytesPerSecond.map { "at most \(ByteCount($0)) a second" }
        let pending =
            isHeld
            ? "the memory is held: “tdxctl reclaim \(ending.record.name)” gives it back"
            : "the memory is being given back" + (pace.map { ", \($0)" } ?? "")
        var certificate = ending.certificate([], pending: pending)
        do {
            try store.write(certificate, keeping: listedCertificates)
        } catch {
            certificate = ending.certificate([], pending: pending + "; this certificate could not be written: \(error)")
            log.error(
                "a certificate could not be written", metadata: ["td": "\(ending.record.name)", "reason": "\(error)"])
        }
        core.withLock { $0.registry.halted(id: id, certificate: certificate, isHeld: isHeld) }
        log.info(
            "a TD runs no more",
            metadata: ["td": "\(ending.record.name)", "id": "\(id)", "path": "\(ending.path)", "pending": "\(pending)"])
        watcher.answer(certificate)
        // Its death may have been noticed while a worker was still at it.
        if isHeld, let exit = holder.process?.exitIfEnded() { exited(holder, exit) }
    }

    /// Answers when the deadline is over, with what is known by then; the end goes on.
    func arm(_ deadline: Duration, _ id: String, _ watcher: StopWatcher) {
        let words = deadline.inWords
        loop.perform { [self] in
            loop.schedule(after: deadline) { [self] in
                guard !watcher.isAnswered, let ending = core.withLock({ $0.endings[id] }) else { return }
                let last = ending.phases.last.map { " after phase \($0.name)" } ?? ""
                // Not written: the final one may be on its way to the same place.
                let certificate = ending.certificate(
                    [],
                    pending: "the deadline of \(words) has passed\(last); the end goes on, and "
                        + "“tdxctl certificate show \(id)” will tell")
                // From now on somebody may ask for it to be quicker.
                if !ending.phases.isEmpty {
                    core.withLock { $0.registry.deadlinePassed(id: id, certificate: certificate) }
                }
                watcher.answer(certificate)
            }
        }
    }
}

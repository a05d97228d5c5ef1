/// A TD's life as tdxd has it, and its end above all: events in, actions out. Pure: its driver carries the actions out
/// and hands in what comes of them.
///
///     building ─▶ runnable ─▶ halting ─▶ held ─▶ releasing ─▶ leaving ─▶ reading ─▶ returning ─▶ proving ─▶ settling
///                     │          ╰───────┬────────╯               │         ▲                       ▲          │
///                     │                asking ◀─ any failed call   │         │                     open ◀───────┤
///                     ╰─ the holder dies, at any stage ────────────┴─────────╯        quarantined, failed, forgotten
///
/// A call that fails is never taken for a holder that has died: the holder is asked again until it answers, or its
/// pidfd shows that the process has ended. What failures keep (`kept`) is never given away again.
public struct EndMachine: Hashable, Sendable {
    public enum Stage: String, Hashable, Sendable, CaseIterable {
        /// Being made.
        case building
        /// It could not be made; its creation clears it up.
        case clearing
        case runnable
        /// The holder was asked to stop it as far as its memory.
        case halting
        /// It runs no more; its memory waits for a reclaim.
        case held
        /// The holder was asked for its memory.
        case releasing
        /// An end has begun, and how far the holder has come is not known.
        case asking
        /// tdxd fetches duplicates of the memory that the holder withholds.
        case fetching
        /// The holder has answered all; its process is to end.
        case leaving
        /// The holder was killed.
        case dying
        /// What the holder has written down is read.
        case reading
        /// What is left of the memory is given back, or kept.
        case returning
        /// The host is looked at.
        case proving
        /// The certificate is written.
        case settling
        /// Looked at, and not all is proven: it is looked at now and then.
        case open
        /// Nothing of it is given to anyone.
        case quarantined
        /// It has ended and stays listed until a client takes note of it.
        case failed
        /// Nothing of it is left.
        case forgotten
    }

    public internal(set) var stage = Stage.building
    /// The process is not one that tdxd has started.
    public internal(set) var isAttached: Bool
    /// Its pidfd has shown it, or no process was found.
    public internal(set) var holderIsGone = false
    /// It was killed, or ended without having been asked to.
    public internal(set) var holderDied = false
    /// It ended by itself while the TD was in use, or its memory held.
    public internal(set) var diedUnasked = false
    /// A client asked for the end.
    public internal(set) var wasAsked = false
    /// A client waits for what comes of it.
    public internal(set) var hasWaiter = false
    /// A client was answered before the end was over.
    public internal(set) var isAnswered = false
    public internal(set) var holdsMemory = false
    public internal(set) var answersWhenHalted = false
    /// From every failure that is known. Never less than before.
    public internal(set) var kept: Kept = []
    /// The record could not be read: quarantined until a client stops it.
    public internal(set) var isUnreadable = false
    /// The time in which proofs are repeated at once is over.
    public internal(set) var isProofTimeOver = false
    /// Of the certificate that is being written.
    public internal(set) var verdict: Verdict?

    /// A TD that is about to be made.
    public init(isAttached: Bool = false) { self.isAttached = isAttached }

    /// What the next tdxd must know.
    public var note: EndNote {
        var note = EndNote()
        note.hasBegun = ![.building, .clearing, .runnable].contains(stage) && !isUnreadable
        note.wasAsked = wasAsked && note.hasBegun
        note.holdsMemory = holdsMemory && note.hasBegun
        note.holderDied = holderDied
        note.kept = kept
        return note
    }

    /// tdxd or the holder is at it, and something will come of it without anyone asking.
    public var isMoving: Bool {
        switch stage {
        case .halting, .releasing, .asking, .fetching, .leaving, .dying, .reading, .returning, .proving, .settling: true
        case .building, .clearing, .runnable, .held, .open, .quarantined, .failed, .forgotten: false
        }
    }

    /// The memory is on its way, and a client that asks for it may change the pace.
    public var isReturning: Bool { isMoving && isAnswered }

    /// The process that makes the TD is not one that tdxd has started.
    public mutating func attach() { if stage == .building { isAttached = true } }

    // MARK: Events

    /// - Returns: what is to be done, in this order. An event that cannot be in this state changes nothing.
    public mutating func handle(_ event: EndEvent) -> [EndAction] {
        switch event {
        case .stopAsked(let terms): stopAsked(terms)
        case .reclaimAsked: reclaimAsked()
        case .deadlinePassed: deadlinePassed()
        case .built: built()
        case .buildAbandoned(let isGone): buildAbandoned(isGone)
        case .halted(let kept): halted(kept)
        case .released(let kept, let isWithheld): released(kept, isWithheld)
        case .failed(let failure): failed(failure)
        case .silentTooLong: silentTooLong()
        case .holderSays(let progress): stage == .asking ? goOn(with: progress) : []
        case .askAgainDue: stage == .asking ? [.askHolderForProgress] : []
        case .duplicatesFetched(let have): duplicatesFetched(have)
        case .holderGone(let inOrder): holderGone(inOrder)
        case .exitOverdue: exitOverdue()
        case .recordRead(let kept): recordRead(kept)
        case .memoryDone: memoryDone()
        case .looked(let look): looked(look)
        case .lookDue: lookDue()
        case .proofTimePassed: proofTimePassed()
        case .certificateWritten(let isWritten): certificateWritten(isWritten)
        }
    }

    // MARK: Clients

    private mutating func stopAsked(_ terms: StopTerms) -> [EndAction] {
        switch stage {
        case .runnable:
            wasAsked = true
            hasWaiter = true
            holdsMemory = terms.holdsMemory
            answersWhenHalted = terms.answersWhenHalted
            stage = .halting
            return [.holdKey, .writeRecord, .askHolderToHalt]
        case .held: return reclaimAsked()
        case .open:
            wasAsked = true
            hasWaiter = true
            isProofTimeOver = true
            stage = .proving
            return [.look]
        case .quarantined where isUnreadable:
            isUnreadable = false
            wasAsked = true
            hasWaiter = true
            holdsMemory = terms.holdsMemory
            answersWhenHalted = terms.answersWhenHalted
            guard !holderIsGone else {
                holderDied = true
                stage = .reading
                return [.writeRecord, .readHolderRecord]
            }
            // How far an end has come that a former tdxd may have begun is known to the holder alone.
            stage = .asking
            return [.writeRecord, .askHolderForProgress]
        case .quarantined: return [.answerKnown]
        case .failed:
            stage = .forgotten
            return [.answerKnown, .forget]
        default: return [.refuse]
        }
    }

    private mutating func reclaimAsked() -> [EndAction] {
        if stage == .held {
            holdsMemory = false
            wasAsked = true
            hasWaiter = true
            stage = .releasing
            return [.writeRecord, .askHolderForMemory]
        }
        guard isReturning else { return [.refuse] }
        hasWaiter = true
        return [.join]
    }

    private mutating func deadlinePassed() -> [EndAction] {
        guard isMoving, hasWaiter else { return [] }
        hasWaiter = false
        isAnswered = true
        return []
    }

    // MARK: Creation

    private mutating func built() -> [EndAction] {
        guard stage == .building, !holderIsGone else { return [] }
        stage = .runnable
        return [.useKey]
    }

    private mutating func buildAbandoned(_ isGone: Bool) -> [EndAction] {
        guard stage == .building || stage == .clearing else { return [] }
        holderIsGone = holderIsGone || isGone
        guard holderIsGone else {
            // It may still hold memory and, on hardware, the key id.
            holderDied = true
            stage = .dying
            return [.holdKey, .writeRecord, .awaitExit]
        }
        stage = .forgotten
        return [.closeDuplicates, .removeRecord, .giveKeyBack, .forget]
    }

    // MARK: The holder's answers

    private mutating func halted(_ found: Kept) -> [EndAction] {
        guard stage == .halting else { return [] }
        kept.formUnion(found)
        return runsNoMore()
    }

    /// The TD runs no more, and its holder waits.
    private mutating func runsNoMore() -> [EndAction] {
        let answer: [EndAction] = answersWhenHalted || holdsMemory ? [.answerHalted] : []
        if !answer.isEmpty {
            isAnswered = true
            hasWaiter = false
            answersWhenHalted = false
        }
        if holdsMemory {
            stage = .held
            return [.writeRecord] + answer
        }
        stage = .releasing
        return [.writeRecord] + answer + [.askHolderForMemory]
    }

    private mutating func released(_ found: Kept, _ isWithheld: Bool) -> [EndAction] {
        guard stage == .releasing else { return [] }
        kept.formUnion(found)
        guard isWithheld else {
            stage = .leaving
            return [.writeRecord, .awaitExit]
        }
        stage = .fetching
        return [.writeRecord, .fetchDuplicates]
    }

    private mutating func duplicatesFetched(_ have: Bool) -> [EndAction] {
        guard stage == .fetching else { return [] }
        if have {
            stage = .leaving
            return [.terminateHolder, .awaitExit]
        }
        // The process is what keeps the memory.
        stage = .reading
        return [.readHolderRecord]
    }

    private mutating func failed(_ failure: CallFailure) -> [EndAction] {
        guard stage == .halting || stage == .releasing || stage == .asking else { return [] }
        // Nothing was begun, and the TD is its process's: it stays as it was.
        if stage == .halting, isAttached || failure == .refusedForGood {
            stage = .runnable
            wasAsked = false
            hasWaiter = false
            holdsMemory = false
            return [.useKey, .writeRecord, .answerRefused]
        }
        if failure == .invalid, !isAttached {
            stage = .dying
            return [.killHolder, .awaitExit]
        }
        stage = .asking
        return [.askAgainLater]
    }

    private mutating func silentTooLong() -> [EndAction] {
        guard stage == .halting || stage == .releasing || stage == .asking else { return [] }
        guard !isAttached else { return failed(.silent) }
        stage = .dying
        return [.killHolder, .awaitExit]
    }

    /// - Precondition: the stage is `asking`.
    mutating func goOn(with progress: HolderProgress) -> [EndAction] {
        switch progress {
        case .runnable:
            stage = .halting
            return [.writeRecord, .askHolderToHalt]
        case .ending: return [.askAgainLater]
        case .halted: return runsNoMore()
        case .ended:
            stage = .leaving
            return [.awaitExit]
        }
    }

    // MARK: The holder's process

    private mutating func holderGone(_ inOrder: Bool) -> [EndAction] {
        guard !holderIsGone else { return [] }
        holderIsGone = true
        switch stage {
        case .building:
            stage = .clearing
            return []
        case .runnable, .held:
            holderDied = true
            diedUnasked = true
            stage = .reading
            return [.holdKey, .writeRecord, .readHolderRecord]
        case .halting, .releasing, .asking, .dying:
            if !inOrder || stage == .dying { holderDied = true }
            stage = .reading
            return [.writeRecord, .readHolderRecord]
        case .fetching, .leaving:
            stage = .reading
            return [.readHolderRecord]
        case .open:
            stage = .proving
            return [.look]
        case .clearing, .reading, .returning, .proving, .settling, .quarantined, .failed, .forgotten: return []
        }
    }

    private mutating func exitOverdue() -> [EndAction] {
        switch stage {
        case .leaving where !isAttached:
            stage = .dying
            return [.killHolder, .awaitExit]
        case .leaving, .dying:
            // Its memory can be given back without it. The proofs show that it is still there.
            if stage == .dying { holderDied = true }
            stage = .reading
            return [.readHolderRecord]
        default: return []
        }
    }

    // MARK: tdxd's own work

    private mutating func recordRead(_ found: Kept) -> [EndAction] {
        guard stage == .reading else { return [] }
        kept.formUnion(found)
        stage = .returning
        return [kept.contains(.memory) ? .keepMemory : .returnMemory]
    }

    private mutating func memoryDone() -> [EndAction] {
        guard stage == .returning else { return [] }
        stage = .proving
        return [.writeRecord, .look]
    }

    private mutating func looked(_ look: Look) -> [EndAction] {
        guard stage == .proving else { return [] }
        // Whatever can be seen from outside.
        guard kept.isEmpty else { return settle(.quarantine) }
        switch look {
        case .proven: return settle(.over(isComplete: true))
        case .unmeasured: return settle(.over(isComplete: false))
        case .open: return isProofTimeOver ? settle(.open) : [.lookSoon]
        }
    }

    private mutating func settle(_ verdict: Verdict) -> [EndAction] {
        stage = .settling
        self.verdict = verdict
        return (verdict == .quarantine ? [.writeRecord] : []) + [.writeCertificate(verdict)]
    }

    private mutating func lookDue() -> [EndAction] {
        guard stage == .proving || stage == .open else { return [] }
        if stage == .open { isProofTimeOver = true }
        stage = .proving
        return [.look]
    }

    private mutating func proofTimePassed() -> [EndAction] {
        isProofTimeOver = true
        return []
    }

    private mutating func certificateWritten(_ isWritten: Bool) -> [EndAction] {
        guard stage == .settling, let verdict else { return [] }
        self.verdict = nil
        defer { hasWaiter = false }
        switch verdict {
        case .quarantine:
            stage = .quarantined
            return [.listAsQuarantined]
        case .over(let isComplete) where isWritten:
            // Whoever waits hears of it now. What was answered before and is complete is worth no more words.
            let isTold = hasWaiter || (wasAsked && isComplete && !diedUnasked)
            stage = isTold ? .forgotten : .failed
            return [.removeRecord, .giveKeyBack, isTold ? .forget : .listAsFailed]
        case .over, .open:
            // What cannot be read later is not proven: it is tried again, and until then nothing is free.
            stage = .open
            isAnswered = true
            return [.listAsOpen, .lookLater]
        }
    }
}

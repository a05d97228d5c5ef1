/// What of an end is written to disk, so that the next tdxd goes on with it.
public struct EndNote: Hashable, Sendable {
    /// An end has begun: the TD is never offered again.
    public var hasBegun = false
    /// A client asked for it.
    public var wasAsked = false
    /// The memory waits until a client asks for it.
    public var holdsMemory = false
    /// The holder's process was killed, or ended without having been asked to.
    public var holderDied = false
    /// From the failures that are known.
    public var kept: Kept = []

    public init() {}
}

/// What a tdxd that starts finds of a TD besides its record.
public struct Found: Hashable, Sendable {
    public enum Holder: Hashable, Sendable {
        /// No process of it is left. In order: it has cleared up as one does that ends by itself.
        case gone(inOrder: Bool)
        /// - Parameter of `alive`: its progress; nil when it does not answer.
        case alive(says: HolderProgress?)
        /// It lives, and has not built its TD.
        case building
    }

    public enum Certificate: Hashable, Sendable { case none, incomplete, complete }

    public var holder: Holder
    public var certificate: Certificate
    /// The TD had been built.
    public var isBuilt: Bool
    /// The process is not one that tdxd has started.
    public var isAttached: Bool
    /// The record could not be read: nothing is known of what a former tdxd had begun.
    public var isUnreadable: Bool

    public init(
        _ holder: Holder, certificate: Certificate = .none, isBuilt: Bool = true, isAttached: Bool = false,
        isUnreadable: Bool = false
    ) {
        self.holder = holder
        self.certificate = certificate
        self.isBuilt = isBuilt
        self.isAttached = isAttached
        self.isUnreadable = isUnreadable
    }
}

extension EndMachine {
    /// An end as the former tdxd has left it.
    ///
    /// - Parameter note: from the record; without a readable record, an empty one.
    public static func adopting(_ note: EndNote, _ found: Found) -> (EndMachine, [EndAction]) {
        var machine = EndMachine(isAttached: found.isAttached)
        machine.wasAsked = note.wasAsked
        machine.holdsMemory = note.holdsMemory
        machine.holderDied = note.holderDied
        machine.kept = note.kept
        let actions = machine.resume(note, found)
        return (machine, actions)
    }

    private mutating func resume(_ note: EndNote, _ found: Found) -> [EndAction] {
        if found.isUnreadable {
            if case .gone = found.holder { holderIsGone = true }
            isUnreadable = true
            stage = .quarantined
            return [.holdKey, .listAsQuarantined]
        }
        switch found.holder {
        case .gone(let inOrder): return resumeWithoutHolder(note, found, inOrder)
        case .building:
            guard !found.isAttached else { return [] }
            stage = .clearing
            return [.killHolder]
        case .alive(let progress):
            // An end that a former tdxd had begun is an attached process's to be asked for again.
            if found.isAttached {
                holdsMemory = false
                wasAsked = false
                guard found.isBuilt else { return [] }
                stage = .runnable
                return [.useKey]
            }
            if progress == .runnable || (progress == nil && found.isBuilt), !note.hasBegun {
                stage = .runnable
                // The record must show the next tdxd that there is a TD.
                return found.isBuilt ? [.useKey] : [.useKey, .writeRecord]
            }
            guard found.isBuilt || note.hasBegun || progress != nil else {
                stage = .clearing
                return [.killHolder]
            }
            stage = .asking
            // A client may want it to be quicker.
            isAnswered = note.wasAsked && (progress == .ending || progress == .halted)
            return [.holdKey] + (progress.map { goOn(with: $0) } ?? [.askHolderForProgress])
        }
    }

    private mutating func resumeWithoutHolder(
        _ note: EndNote, _ found: Found, _ inOrder: Bool
    ) -> [EndAction] {
        holderIsGone = true
        guard found.isBuilt || note.hasBegun || !note.kept.isEmpty else {
            stage = .forgotten
            return [.closeDuplicates, .removeRecord, .giveKeyBack, .forget]
        }
        if !note.kept.isEmpty, found.certificate != .none {
            stage = .quarantined
            return [.holdKey, .listAsQuarantined]
        }
        if note.kept.isEmpty, found.certificate == .complete {
            stage = .forgotten
            return [.closeDuplicates, .removeRecord, .giveKeyBack, .forget]
        }
        if !inOrder { holderDied = true }
        diedUnasked = holderDied && !note.wasAsked
        stage = .reading
        return [.holdKey, .writeRecord, .readHolderRecord]
    }
}

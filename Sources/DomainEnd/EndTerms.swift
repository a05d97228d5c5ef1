public import Terms

/// What of a TD no other TD may get until the host is restarted.
public struct Kept: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The key id may still be in use.
    public static let key = Self(rawValue: 1)
    /// Pages may still be the TD's.
    public static let memory = Self(rawValue: 2)
}

extension [EndFailure] {
    /// What these failures keep: each kind decides, and one that keeps something is enough.
    public var kept: Kept {
        reduce(into: []) { kept, failure in
            if failure.kind.keepsKey { kept.insert(.key) }
            if failure.kind.keepsMemory { kept.insert(.memory) }
        }
    }
}

/// Why a call to a holder has no useful answer. None of them means that the holder is dead: only its pidfd shows that.
public enum CallFailure: String, Hashable, Sendable, CaseIterable {
    /// It answered that it does not now, such as for want of connections.
    case refused
    /// It answered that it never will, and that nothing is changed.
    case refusedForGood = "refused for good"
    /// No connection could be made, or the one that there was has broken.
    case unreachable
    /// It has the call, and nothing has come for some time.
    case silent
    /// What came cannot be an answer: the process does not do what a holder does.
    case invalid
}

/// How far a holder's own half of an end has come, by its own report.
public enum HolderProgress: String, Hashable, Sendable, CaseIterable {
    /// The end has not begun.
    case runnable
    /// It is at it.
    case ending
    /// The TD runs no more; the holder waits to be asked for the memory.
    case halted
    /// Over: the process ends by itself.
    case ended
}

/// What one look at the host has shown of a TD.
public enum Look: String, Hashable, Sendable, CaseIterable {
    /// Every proof holds.
    case proven
    /// Nothing of the TD is left that could change. How much memory it had was never counted, and never will be.
    case unmeasured
    /// A proof does not hold yet.
    case open
}

/// What is to become of a TD once its certificate is written.
public enum Verdict: Hashable, Sendable {
    case over(isComplete: Bool)
    case open
    case quarantine
}

/// A client's wish to end a TD.
public struct StopTerms: Hashable, Sendable {
    /// The memory stays with the holder until a client asks for it.
    public var holdsMemory: Bool
    /// The client has its answer when the TD runs no more.
    public var answersWhenHalted: Bool

    public init(holdsMemory: Bool = false, answersWhenHalted: Bool = false) {
        self.holdsMemory = holdsMemory
        self.answersWhenHalted = answersWhenHalted
    }
}

/// What happens to the end of a TD.
public enum EndEvent: Hashable, Sendable {
    // What clients want.
    case stopAsked(StopTerms)
    case reclaimAsked
    /// The client's time is over; it has been answered with what is known.
    case deadlinePassed
    // What comes of a creation.
    case built
    /// - Parameter holderIsGone: false when its process does not end even when killed.
    case buildAbandoned(holderIsGone: Bool)
    // What the holder answers, or does not.
    case halted(Kept)
    /// - Parameter isWithheld: the holder's process stays, because it keeps memory that no one may get.
    case released(Kept, isWithheld: Bool)
    case failed(CallFailure)
    /// It has shown no sign of life for as long as the configuration allows.
    case silentTooLong
    case holderSays(HolderProgress)
    /// It is time to ask the holder again.
    case askAgainDue
    /// tdxd tried to get duplicates of the memory that a holder withholds.
    case duplicatesFetched(Bool)
    // What becomes of its process.
    /// Its pidfd shows it. In order: it has cleared up as one does that ends by itself.
    case holderGone(inOrder: Bool)
    /// It was to end, or was killed, and is still there.
    case exitOverdue
    // What tdxd's own work comes to.
    /// What the holder had written down of its end was read, as far as there is anything; its last will is over.
    case recordRead(Kept)
    /// What was left was given back, or kept, through tdxd's duplicates.
    case memoryDone
    case looked(Look)
    /// Time to look at the host again.
    case lookDue
    /// From now on a look that leaves something open is not repeated at once.
    case proofTimePassed
    case certificateWritten(Bool)
}

/// What is to be done next. Actions of one event are done in their order.
public enum EndAction: Hashable, Sendable {
    /// The client cannot have it in this state.
    case refuse
    /// The client gets the certificate that there is.
    case answerKnown
    /// The client waits with those who wait already; the memory comes at its pace.
    case join
    /// Those who wait get what is known when the TD runs no more.
    case answerHalted
    /// Those who wait hear why the holder does not end its TD.
    case answerRefused

    /// The TD is used no more: its key id counts as draining.
    case holdKey
    /// The TD goes on: its key id is in use.
    case useKey
    case giveKeyBack

    /// The record on disk becomes what `EndMachine.note` is now.
    case writeRecord
    case removeRecord
    case writeCertificate(Verdict)

    case askHolderToHalt
    case askHolderForMemory
    /// Asks the holder how far it is.
    case askHolderForProgress
    /// A timer, then `askAgainDue`.
    case askAgainLater
    case fetchDuplicates
    /// A timer, then `exitOverdue`, unless the process ends before.
    case awaitExit
    case terminateHolder
    case killHolder

    /// Reads what the holder has written down, and waits for its last will.
    case readHolderRecord
    /// Punches what is left through the duplicates, counts, and closes them.
    case returnMemory
    /// Counts what is left; the duplicates stay open, so that no other TD gets it.
    case keepMemory
    /// Closes duplicates of a TD whose end was proven before.
    case closeDuplicates
    case look
    /// A short timer, then `lookDue`.
    case lookSoon
    /// A long timer, then `lookDue`.
    case lookLater

    /// Stays listed as failed until a client takes note of it.
    case listAsFailed
    case listAsOpen
    case listAsQuarantined
    case forget
}

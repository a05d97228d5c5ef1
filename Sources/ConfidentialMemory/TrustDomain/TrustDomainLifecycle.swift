/// Where a TD is in its life.
public enum TrustDomainState: String, Hashable, Sendable, CaseIterable {
    /// Finalized; it may run and convert.
    case runnable
    /// Being torn down.
    case stopping
    /// It runs no more and was terminated where the kernel can; its memory is still there.
    case halted
    /// Everything is closed.
    case released
    /// A page could not be taken from it: its memory is kept from everybody.
    case withheld
}

/// What may happen when. Pure: each method changes the state and returns what the caller must do, or refuses and changes
/// nothing.
///
///     runnable ── stop ──▶ stopping ── halted ──▶ halted ── release ──▶ stopping ── released ──▶ released
///     and where a page cannot be taken from the TD: stopping ── withheld ──▶ withheld, for good
///        └─ beginUse / endUse, any number at a time
struct TrustDomainLifecycle: Hashable, Sendable {
    private(set) var state = TrustDomainState.runnable
    /// Conversions and the like under way; none begins once the TD stops.
    private(set) var uses = 0

    enum StopAction: Hashable, Sendable {
        /// No use is under way: tear the TD down.
        case tearDown
        /// Uses are under way; they are asked to stop, and the last one's `endUse` returns `.tearDown`.
        case waitForUses
    }

    /// - Parameter evenHalted: the use only looks, and there is memory to look at.
    mutating func beginUse(_ operation: String, evenHalted: Bool = false) throws(TrustDomainError) {
        guard state == .runnable || (evenHalted && (state == .halted || state == .withheld)) else {
            throw .wrongState(state, operation: operation)
        }
        uses += 1
    }

    /// - Returns: what a waiting stop may do now; nil where nothing waits or others still use the TD.
    mutating func endUse() -> StopAction? {
        precondition(uses > 0, "a use ends that never began")
        uses -= 1
        return state == .stopping && uses == 0 ? .tearDown : nil
    }

    mutating func stop() throws(TrustDomainError) -> StopAction {
        guard state == .runnable else { throw .wrongState(state, operation: "stop") }
        state = .stopping
        return uses == 0 ? .tearDown : .waitForUses
    }

    mutating func halted() {
        precondition(state == .stopping && uses == 0, "only a stop without a use under way can halt")
        state = .halted
    }

    mutating func release() throws(TrustDomainError) {
        guard state == .halted else { throw .wrongState(state, operation: "release") }
        state = .stopping
    }

    mutating func released() {
        precondition(state == .stopping && uses == 0, "only what is being released can end")
        state = .released
    }

    mutating func withheld() {
        precondition(state == .stopping && uses == 0, "only what is being released can be withheld")
        state = .withheld
    }

    /// True once conversions under way should end at their next chunk.
    var isStopping: Bool { state != .runnable }
}

internal import ControlInterface

typealias HolderState = HolderInterface.State

/// An operation came in a state that does not allow it.
struct OperationRefused: Error, Hashable, Sendable {
    var operation: String
    var state: HolderState
}

/// What a holder may do when. Pure: its owner acts on what it returns. Each method changes the state or refuses; a
/// refusal changes nothing.
///
///     empty ── build ──▶ building ── built ──▶ runnable ── stop ──▶ stopping ── stopped ──▶ released
///       │                   └────── buildFailed ──▶ failed ── stop ──▶ stopping
///       └── stop ──▶ stopping
///     and, where the memory is held: stopping ── halted ──▶ halted ── reclaim ──▶ stopping
struct HolderLifecycle: Hashable, Sendable {
    private(set) var state = HolderState.empty
    /// Why the state is `failed`.
    private(set) var reason: String?

    mutating func build() throws(OperationRefused) {
        guard state == .empty else { throw OperationRefused(operation: "Build", state: state) }
        state = .building
    }

    mutating func built() {
        precondition(state == .building)
        state = .runnable
    }

    mutating func buildFailed(_ why: String) {
        precondition(state == .building)
        state = .failed
        reason = why
    }

    /// Whether the TD's memory may be converted or mapped now.
    func use(_ operation: String) throws(OperationRefused) {
        guard state == .runnable else { throw OperationRefused(operation: operation, state: state) }
    }

    /// Allowed once, from every state but a running build, whose descriptors are not all known yet.
    mutating func stop() throws(OperationRefused) {
        switch state {
        case .empty, .runnable, .failed: state = .stopping
        case .building, .stopping, .halted, .released: throw OperationRefused(operation: "Stop", state: state)
        }
    }

    /// The TD runs no more; its memory waits.
    mutating func halted() {
        precondition(state == .stopping)
        state = .halted
    }

    mutating func reclaim() throws(OperationRefused) {
        guard state == .halted else { throw OperationRefused(operation: "Reclaim", state: state) }
        state = .stopping
    }

    /// Whether there are backing files of which duplicates may be given.
    func useBacking(_ operation: String) throws(OperationRefused) {
        guard state == .runnable || state == .halted else { throw OperationRefused(operation: operation, state: state) }
    }

    mutating func stopped(failure: String?) {
        precondition(state == .stopping)
        state = failure == nil ? .released : .failed
        reason = failure
    }

    /// Whether a holder without work by now should go.
    var mayExitIdle: Bool { state == .empty || state == .failed }
}

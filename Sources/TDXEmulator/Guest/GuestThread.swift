internal import Glibc
internal import TDXModule

/// The thread on which a guest's program runs, in turns with the thread inside KVM_RUN: exactly one of the two goes on
/// at any moment, so what they hand over needs no lock.
final class GuestThread: @unchecked Sendable {
    /// Why the guest handed the turn back.
    enum Turn {
        /// The vCPU left the guest for the host's sake and only needs to be entered again.
        case interrupted
        /// The vCPU left the guest with an exit that the kernel must handle.
        case exit(TDExit)
        /// The guest touches shared memory.
        case sharedAccess(SharedAccess)
        /// The program returned.
        case finished
    }

    private let hostTurn = Semaphore()
    private let guestTurn = Semaphore()
    private var handle: pthread_t?
    private var turn = Turn.finished
    private(set) var isFinished = false
    /// Set before the last turns: every step ends with `GuestFault.stopped`.
    private(set) var isStopping = false

    /// Makes the thread; the program begins at the first `resume`.
    func start(_ program: @escaping @Sendable () -> Void) {
        let body = Body { [self] in
            guestTurn.wait()
            program()
            isFinished = true
            turn = .finished
            hostTurn.signal()
        }
        var thread = pthread_t()
        // The program's thread takes no signal: in a VMM's process one that is meant for the VMM's threads could come here.
        var (all, before) = (sigset_t(), sigset_t())
        sigfillset(&all)
        pthread_sigmask(SIG_SETMASK, &all, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        let result = pthread_create(
            &thread, nil,
            { argument in
                Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, Unmanaged.passRetained(body).toOpaque())
        precondition(result == 0, "pthread_create: \(result)")
        handle = thread
    }

    /// Host's side: gives the guest the turn and waits until it comes back.
    func resume() -> Turn {
        guard !isFinished else { return .finished }
        guestTurn.signal()
        hostTurn.wait()
        return turn
    }

    /// Guest's side: hands the turn back and waits for the next.
    func yield(_ turn: Turn) {
        self.turn = turn
        hostTurn.signal()
        guestTurn.wait()
    }

    /// Ends the program by failing its steps, and the thread.
    func stop() {
        guard let handle else { return }
        isStopping = true
        while !isFinished { _ = resume() }
        pthread_join(handle, nil)
        self.handle = nil
    }

    private final class Body {
        let run: () -> Void
        init(_ run: @escaping () -> Void) { self.run = run }
    }
}

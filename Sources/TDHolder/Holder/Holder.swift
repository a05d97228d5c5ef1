internal import ConfidentialMemory
internal import ControlInterface
internal import LinuxSystem
internal import Logging
internal import MemoryUnits
internal import Synchronization

/// The one TD of this process, from nothing to its end. The methods that begin something decide at once; those that do
/// it block, and belong on worker threads.
final class Holder: Sendable {
    struct State {
        var lifecycle = HolderLifecycle()
        /// What Build asked for.
        var order: HolderInterface.Build.Parameters?
        var createdAt = ""
        var built: Built?
        /// What was reported of a TD whose memory is held.
        var halted: TeardownReport?
        /// What was answered of a TD that a page could not be taken from.
        var withheld: HolderInterface.Stop.Reply?
        /// How far the end has come.
        var ending: Progress?
    }

    /// A TD that is there.
    struct Built: Sendable {
        var domain: ConfidentialMemory.TrustDomain
        var system: HostedSystem
        var mrtd: String
        var keyID: UInt16?
        /// Whether the threads that allocate its private memory have its NUMA policy.
        var threadsArePlaced: Bool

        /// Nil where no NUMA nodes were asked for.
        var placement: NUMAPlacement? {
            domain.memory.placement.map { NUMAPlacement($0, threadsArePlaced: threadsArePlaced) }
        }
    }

    /// As this process was started; `emulation` and `policy` are with the settings that a Build brings.
    let host: BackendHost
    private let ownPolicy: TeardownPolicy
    /// Nil where this process's death has nothing to see to.
    let will: LastWill?
    /// Where what came of the end is written down.
    let record: EndRecord
    let log: Logger
    let state = Mutex(State())
    /// Runs a vCPU that never leaves, for a trial.
    let stuck = Mutex<SystemThread?>(nil)
    let pace = ReleasePace()
    /// Writes to the journal what a thread that converts must not wait for.
    let reporter: SerialWorker

    init(
        host: BackendHost, policy: TeardownPolicy, will: LastWill?, record: EndRecord, log: Logger,
        reporter: SerialWorker
    ) {
        self.host = host
        ownPolicy = policy
        self.will = will
        self.record = record
        self.log = log
        self.reporter = reporter
    }

    func removeEmptyRecord() { record.removeIfEmpty() }

    /// This process has no work yet, or the work has failed.
    var mayExitIdle: Bool { state.withLock { $0.lifecycle.mayExitIdle } }

    // MARK: Settings

    /// How the TD is ended.
    var policy: TeardownPolicy {
        guard let settings = state.withLock({ $0.order?.settings }) else { return ownPolicy }
        var policy = ownPolicy
        if let chunk = settings.releaseChunkBytes { policy.chunk = chunk.bytes }
        if let threads = settings.releaseThreads { policy.threads = threads.count }
        return policy
    }

    /// What an emulated backend plays.
    var emulation: EmulationOptions {
        host.emulation.changed(by: state.withLock { $0.order?.settings?.emulation })
    }

    // MARK: State

    var name: String { state.withLock { $0.order?.name ?? "" } }

    func runnable(_ operation: String) throws(ControlError) -> Built {
        let now = state.withLock { $0 }
        do throws(OperationRefused) { try now.lifecycle.use(operation) } catch {
            throw ControlError(error, name: now.order?.name ?? "")
        }
        guard let built = now.built else {
            throw .holderFailed(name: now.order?.name ?? "", reason: "it is runnable and has no TD")
        }
        return built
    }

    func changing(
        named name: String, _ change: (inout State) throws(OperationRefused) -> Void
    ) throws(ControlError) {
        let refusal: OperationRefused? = state.withLock { state in
            do throws(OperationRefused) {
                try change(&state)
                return nil
            } catch {
                return error
            }
        }
        if let refusal { throw ControlError(refusal, name: name) }
    }
}

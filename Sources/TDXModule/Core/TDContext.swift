internal import MemoryUnits
internal import Synchronization

/// The parts of TDR and TDCS that hot paths never touch.
final class TDContext: Sendable {
    struct Contents: Sendable {
        /// TD UUID, 32 bytes from the random-number generator.
        var uuid: [UInt8]
        /// Packages whose key is configured.
        var packagesConfigured: UInt64 = 0
        /// TDCX pages in the order they were added.
        var controlPages: [UInt64] = []
        var parameters = TDParameters()
        /// MRTD, 48 bytes; zeros until MR.FINALIZE.
        var mrtd = [UInt8](repeating: 0, count: 48)
        var rtmrs = [[UInt8]](repeating: [UInt8](repeating: 0, count: 48), count: 4)
        var serviceHash = [UInt8](repeating: 0, count: 48)
        /// TD_CTLS, writable by the guest.
        var controls: UInt64 = 0
        /// HP_LOCK_TIMEOUT in microseconds.
        var hostPriorityTimeout: UInt64 = 1_000_000
        /// x2APIC ids in use ([late] VP.INIT version 1).
        var apicIDs: Set<UInt32> = []
        /// vCPUs that were initialised, in order.
        var nextVCPUIndex: UInt32 = 0
    }

    let contents: Mutex<Contents>
    /// The measurement under way, from MNG.INIT to MR.FINALIZE.
    let measurement = RunningMeasurement()

    init(uuid: [UInt8]) {
        contents = Mutex(Contents(uuid: uuid))
    }
}

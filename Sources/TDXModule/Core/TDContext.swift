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
        /// HP_LOCK_TIMEOUT in ticks of the TSC: 32 bits, as the module keeps it.
        var hostPriorityTicks: UInt32 = 0
        /// The virtual TSC is the processor's times the multiplier, of which 48 bits are a fraction, plus the offset.
        var tscMultiplier: UInt64 = 0
        var tscOffset: UInt64 = 0
        /// NOTIFY_ENABLES, bit 0: exits for zero-step attacks raise a notification in the guest.
        var notifyEnables: UInt64 = 0
        /// VM_CTLS by VM.
        var vmControls: [UInt64] = [0, 0, 0, 0]
        /// x2APIC ids in use ([late] VP.INIT version 1).
        var apicIDs: Set<UInt32> = []
    }

    let contents: Mutex<Contents>
    /// The measurement under way, from MNG.INIT to MR.FINALIZE.
    let measurement = RunningMeasurement()

    init(uuid: [UInt8]) {
        contents = Mutex(Contents(uuid: uuid))
    }
}

extension TDContext.Contents {
    /// TD_CTLS: pending pages cause TD exits instead of #VE.
    static let pendingVEDisable: UInt64 = 1 << 0

    /// Microseconds that HP_LOCK_TIMEOUT may be: 10 ms … 100 s.
    static let hostPriorityTimeouts: ClosedRange<UInt64> = 10_000...100_000_000
    static let defaultHostPriorityTimeout: UInt64 = 1_000_000

    /// HP_LOCK_TIMEOUT in microseconds, as the kept ticks give it: a timeout of more ticks than fit has lost its upper bits.
    func hostPriorityTimeout(_ processor: ProcessorModel) -> UInt64 {
        UInt64(hostPriorityTicks) * 1_000_000 / max(1, processor.tscFrequency)
    }

    mutating func setHostPriorityTimeout(_ microseconds: UInt64, _ processor: ProcessorModel) {
        hostPriorityTicks = UInt32(truncatingIfNeeded: microseconds * processor.tscFrequency / 1_000_000)
    }

    /// MNG.INIT: the virtual TSC runs at the TD's frequency and is 0 now.
    mutating func startVirtualTSC(at counter: UInt64, _ processor: ProcessorModel) {
        let frequency = (UInt64(parameters.tscFrequency) * 25_000_000).multipliedFullWidth(by: 1 << 48)
        let native = max(1, processor.tscFrequency)
        tscMultiplier = frequency.high < native ? native.dividingFullWidth(frequency).quotient : .max
        tscOffset = 0 &- scaled(counter)
    }

    func virtualTSC(at counter: UInt64) -> UInt64 { scaled(counter) &+ tscOffset }

    private func scaled(_ counter: UInt64) -> UInt64 {
        let product = counter.multipliedFullWidth(by: tscMultiplier)
        return product.high << 16 | product.low >> 48
    }
}

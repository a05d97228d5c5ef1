internal import ConfidentialMemory
internal import TDXEmulator

extension HostedSystem {
    /// The first page that an emulated kernel could not take from the TD, or whatever else it took for a bug; nil on hardware.
    var removalFailure: RemovalFailure? {
        bug.map { RemovalFailure(reason: "emulated KVM_BUG_ON: \($0.text)", status: $0.status) }
    }
}

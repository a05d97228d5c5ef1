public import Logging
internal import MemoryUnits
public import ServiceSupport

/// How one TD's holder is started. The holder's directory is made from the TD's id and the runtime directory that the launcher was
/// started with; recordings go to the directory that it was started with.
public struct ServeOrder: Hashable, Sendable, Codable {
    /// The TD's: 32 hexadecimal digits.
    public var id: String
    public var backend: TDXDConfiguration.BackendChoice
    /// Bytes in one punch at the end of the TD, in MiB: 2 to 64, even.
    public var releaseChunkMebibytes: UInt64
    public var logLevel: Logger.Level
    public var lastWill: Bool
    public var emulatedTerminate: TDXDConfiguration.EmulatedTerminate
    public var emulatedLastWill: Bool
    public var emulatedPauseAt: TDXDConfiguration.EmulatedPause
    /// From 1; nil for none.
    public var emulatedFailingRemoval: UInt64?
    public var emulatedStuckVCPU: Bool
    public var emulatedPreFault: Bool

    /// - Parameter id: the TD's.
    public init(id: String, _ configuration: TDXDConfiguration) {
        self.id = id
        let chunk = configuration.memory.releaseChunk.rawValue >> 20
        backend = configuration.backends.backend
        releaseChunkMebibytes = chunk - chunk % 2
        logLevel = configuration.service.logLevel
        lastWill = configuration.teardown.lastWill == .yes
        emulatedTerminate = configuration.backends.emulatedTerminate
        emulatedLastWill = configuration.backends.emulatedLastWill == .yes
        emulatedPauseAt = configuration.backends.emulatedPauseAt
        emulatedFailingRemoval = configuration.backends.emulatedFailingRemoval
        emulatedStuckVCPU = configuration.backends.emulatedStuckVCPU == .yes
        emulatedPreFault = configuration.backends.emulatedPreFault == .yes
    }

    /// - Throws: which field is out of its range. Values of enumerations are checked where they are decoded.
    func checked() throws(LaunchFlaw) -> Self {
        let isDigit: (UInt8) -> Bool = { (48...57).contains($0) || (97...102).contains($0) }
        guard id.utf8.count == 32, id.utf8.allSatisfy(isDigit) else {
            throw LaunchFlaw(field: "id", value: String(id.prefix(64)), limit: "32 hexadecimal digits")
        }
        guard (2...64).contains(releaseChunkMebibytes), releaseChunkMebibytes % 2 == 0 else {
            throw LaunchFlaw(
                field: "releaseChunkMebibytes", value: "\(releaseChunkMebibytes)", limit: "an even number from 2 to 64")
        }
        guard emulatedFailingRemoval.map({ (1...UInt64(Int.max)).contains($0) }) ?? true else {
            throw LaunchFlaw(
                field: "emulatedFailingRemoval", value: "\(emulatedFailingRemoval ?? 0)", limit: "1 to 2^63 − 1")
        }
        return self
    }

    /// The command line of `tdx-holder`, without its name.
    /// - Parameters:
    ///   - holders: the directory of holders' directories.
    ///   - traces: where recordings are made; nil for nowhere.
    public func arguments(holders: String, traces: String?) -> [String] {
        var arguments = [
            "serve", "--directory", "\(holders)/\(id)", "--backend", backend.rawValue,
            "--release-chunk", String(releaseChunkMebibytes),
            "--emulated-terminate", emulatedTerminate.rawValue, "--log-level", logLevel.rawValue,
        ]
        if lastWill { arguments += ["--last-will"] + (emulatedLastWill ? ["--emulated-last-will"] : []) }
        if emulatedPauseAt != .none { arguments += ["--emulated-pause-at", emulatedPauseAt.rawValue] }
        if emulatedStuckVCPU { arguments.append("--emulated-stuck-vcpu") }
        if !emulatedPreFault { arguments.append("--emulated-without-pre-fault") }
        if let emulatedFailingRemoval {
            arguments += ["--emulated-failing-removal", String(emulatedFailingRemoval)]
        }
        if let traces { arguments += ["--trace", "\(traces)/\(id).jsonl"] }
        return arguments
    }
}

extension TDXDConfiguration.BackendChoice: Codable {}
extension TDXDConfiguration.EmulatedTerminate: Codable {}
extension TDXDConfiguration.EmulatedPause: Codable {}

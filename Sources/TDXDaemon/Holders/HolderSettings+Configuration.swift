internal import ControlInterface
internal import MemoryUnits
internal import ServiceSupport

extension HolderSettings {
    /// The settings of tdxd.conf that a holder has to know.
    init(_ configuration: TDXDConfiguration) {
        let backends = configuration.backends
        self.init(
            shardMinimumBytes: configuration.memory.shardMinimum.rawValue,
            releaseChunkBytes: configuration.memory.releaseChunk.rawValue,
            releaseThreads: configuration.memory.releaseThreads,
            emulation: EmulationSettings(
                terminate: EmulationSettings.Terminate(rawValue: backends.emulatedTerminate.rawValue),
                pauseAt: EmulationSettings.Pause(rawValue: backends.emulatedPauseAt.rawValue),
                failingRemoval: backends.emulatedFailingRemoval, stuckVCPU: backends.emulatedStuckVCPU == .yes,
                preFault: backends.emulatedPreFault == .yes))
    }
}

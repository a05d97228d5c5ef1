internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import ServiceSupport

extension HolderSettings {
    /// The settings of tdxd.conf that a holder has to know.
    init(_ configuration: TDXDConfiguration) {
        let backends = configuration.backends
        let memory = configuration.memory
        self.init(
            shardMinimumBytes: ShardMinimum(unchecked: Int64(clamping: memory.shardMinimum.rawValue)),
            releaseChunkBytes: ReleaseChunk(unchecked: Int64(clamping: memory.releaseChunk.rawValue)),
            releaseThreads: ReleaseThreads(unchecked: Int64(memory.releaseThreads)),
            storm: ConversionStormRule(
                conversions: StormCount(unchecked: Int64(memory.conversionStorm)),
                windowMilliseconds: StormWindow(unchecked: memory.conversionStormWindow.wholeMilliseconds)),
            emulation: EmulationSettings(
                terminate: EmulationSettings.Terminate(rawValue: backends.emulatedTerminate.rawValue),
                pauseAt: EmulationSettings.Pause(rawValue: backends.emulatedPauseAt.rawValue),
                failingRemoval: backends.emulatedFailingRemoval.map { RemovalNumber(unchecked: Int64(clamping: $0)) },
                stuckVCPU: backends.emulatedStuckVCPU == .yes,
                preFault: backends.emulatedPreFault == .yes))
    }
}

import ArgumentParser
import TDHolder

struct Serve: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Serves io.tdxd.Holder on DIRECTORY/socket until the TD that is built there has ended.")

    @Option(help: ArgumentHelp("Where the socket is made.", valueName: "directory"))
    var directory: String

    @OptionGroup var backend: BackendOption

    @Option(help: "Seconds to wait for a request to build a TD, 1 to 3600.")
    var idleTimeout = 30

    @Option(help: "MiB that one punch releases at the end: 2 to 64, even.")
    var releaseChunk: UInt64 = 32

    @Option(
        help: "What an emulated kernel makes of KVM_TDX_TERMINATE_VM: absent, announced, unannounced or busy:COUNT.",
        transform: { text in
            guard let support = EmulationOptions.terminateSupport(parsing: text) else {
                throw ValidationError("“\(text)” is none of absent, announced, unannounced and busy:COUNT.")
            }
            return support
        })
    var emulatedTerminate = EmulationOptions().terminate

    @Option(help: "CPU packages of an emulated host, 1 to 8.")
    var emulatedPackages = 1

    @Flag(
        name: .customLong("last-will"),
        help: ArgumentHelp(
            "Terminate the TD even when this process is killed, by a second process that shares its memory; where the "
                + "kernel has KVM_TDX_TERMINATE_VM."))
    var hasLastWill = false

    @Flag(help: "On an emulated backend with a real VM, let the last will make a harmless call instead.")
    var emulatedLastWill = false

    @Option(
        help:
            "Stop this process (SIGSTOP) where a phase of an emulated TD's end begins: quiesce, terminate, release or close.",
        transform: { text in
            guard let phase = EmulationOptions.Pause(rawValue: text) else {
                throw ValidationError("“\(text)” is none of quiesce, terminate, release and close.")
            }
            return phase
        })
    var emulatedPauseAt: EmulationOptions.Pause?

    @Option(
        help: ArgumentHelp(
            "Let the software TDX module refuse to give up this page that is taken from an emulated TD, counted from 1.",
            valueName: "number"))
    var emulatedFailingRemoval: Int?

    @Flag(help: "Let an emulated TD's first vCPU run and never leave KVM_RUN.")
    var emulatedStuckVcpu = false

    @Flag(help: "Let an emulated kernel be one that has no KVM_PRE_FAULT_MEMORY.")
    var emulatedWithoutPreFault = false

    @Option(
        help: ArgumentHelp(
            "Record every call of the software TDX module in this file, which must not exist yet.", valueName: "file"))
    var trace: String?

    @OptionGroup var log: LogLevelOption

    func validate() throws {
        guard directory.hasPrefix("/") else { throw ValidationError("--directory is an absolute path.") }
        guard (1...3600).contains(idleTimeout) else { throw ValidationError("--idle-timeout is 1 to 3600 seconds.") }
        guard (2...64).contains(releaseChunk), releaseChunk % 2 == 0 else {
            throw ValidationError("--release-chunk is an even number of MiB from 2 to 64.")
        }
        guard emulatedFailingRemoval.map({ $0 >= 1 }) ?? true else {
            throw ValidationError("--emulated-failing-removal is 1 or more.")
        }
        guard (1...8).contains(emulatedPackages) else { throw ValidationError("--emulated-packages is 1 to 8.") }
    }

    func run() throws {
        let options = HolderOptions(
            directory: directory, backend: backend.backend,
            emulation: EmulationOptions(
                terminate: emulatedTerminate, packages: emulatedPackages, tracePath: trace,
                rehearsesLastWill: emulatedLastWill, pausesAt: emulatedPauseAt,
                failingRemoval: emulatedFailingRemoval, keepsVCPU: emulatedStuckVcpu,
                preFaults: !emulatedWithoutPreFault),
            idleSeconds: idleTimeout, releaseChunkMebibytes: releaseChunk, hasLastWill: hasLastWill,
            device: backend.kvmDevice)
        try HolderProgram.serve(options, logLevel: log.logLevel)
    }
}

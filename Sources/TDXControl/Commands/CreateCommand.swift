internal import ArgumentParser
internal import ControlInterface
internal import LinuxSystem
internal import MemoryUnits
internal import SystemPackage

struct CreateCommand: ControlCommand {
    static let configuration = CommandConfiguration(
        commandName: "create", abstract: "Creates a TD, loads and measures its firmware, and finalizes it.")

    @Argument(help: "Its name: 1 to 64 of a-z 0-9 . _ -", transform: parseTerm)
    var name: NewTrustDomainName

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp("Its memory, such as 512M, 1.5G or 4GiB (powers of 1,024).", valueName: "size"),
        transform: parseBytes)
    var memory: MemorySize

    @Option(
        name: [.customShort("c"), .long],
        help: ArgumentHelp("How many virtual CPUs it has, 1 to 1024.", valueName: "count"), transform: parseNumber)
    var vcpus = VCPUCount(unchecked: 1)

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp("A TDVF firmware image; without one, memory is private and empty.", valueName: "path"),
        completion: .file(), transform: parseFirmware)
    var firmware: FirmwarePath?

    @Option(
        help: ArgumentHelp("48 bytes that the owner measures configuration with.", valueName: "hex"),
        transform: parseTerm)
    var mrconfigid: Digest48?

    @Option(help: ArgumentHelp("48 bytes that identify the owner.", valueName: "hex"), transform: parseTerm)
    var mrowner: Digest48?

    @Option(help: ArgumentHelp("48 bytes of the owner's configuration.", valueName: "hex"), transform: parseTerm)
    var mrownerconfig: Digest48?

    @Flag(help: "Allocate all private memory first, so that the TD cannot run short; Ctrl-C takes it all back.")
    var preallocate = false

    @Flag(
        help: """
            Map all private memory into the TD's page table as well, so that the guest meets no fault at a first touch; \
            refused where the kernel cannot. With --preallocate memory is allocated on all CPUs first. Ctrl-C takes it all back.
            """)
    var prefault = false

    @Option(
        help: ArgumentHelp(
            "Wait that long, such as 30s or 2h, for memory, a key id or a place; without it the TD is refused at once.",
            valueName: "time"),
        transform: parseTime)
    var wait: CreationWait?

    @Option(
        help: ArgumentHelp(
            """
            The NUMA nodes that its memory comes from: bind:0 or bind:0,1 (from these alone), or interleave:0-1 (page by \
            page). Where the kernel cannot do that, the TD is made all the same and shown with the reason.
            """, valueName: "policy:nodes"), transform: parseNUMA)
    var numa: NUMAPolicy?

    @OptionGroup var options: GlobalOptions
    @ParentCommand var root: Tdxctl

    func execute(_ context: Context) throws(Failure) -> ExitStatus {
        let start = MonotonicInstant.now
        let domain = try context.follow(
            "create \(name)", ManagerInterface.Create.method,
            CreateRequest(
                name: name, memoryBytes: memory, vcpus: vcpus, firmware: firmware, mrconfigid: mrconfigid,
                mrowner: mrowner, mrownerconfig: mrownerconfig, preallocate: preallocate ? true : nil,
                waitMilliseconds: wait, numa: numa, prefault: prefault ? true : nil),
            as: ManagerInterface.Create.Reply.self, descriptor: try openFirmware(), progress: \.progress,
            result: \.domain)
        let took = formatted(milliseconds: (MonotonicInstant.now - start).milliseconds)
        context.show(
            completed(domain, as: "TrustDomain"),
            text: "Created in \(took).\n" + render(domain, context.console.style))
        return .ok
    }

    /// The image, opened with this user's rights: tdxd opens no path for others.
    private func openFirmware() throws(Failure) -> RetainedDescriptor? {
        guard let firmware else { return nil }
        let reason: String
        do throws(LinuxError) {
            // Opening a FIFO or a device could wait or have effects.
            let place = try OwnedDescriptor.open(path: firmware.rawValue, .place)
            if try place.status().kind == .regular {
                return RetainedDescriptor(try OwnedDescriptor.open(path: "/proc/self/fd/\(place.rawValue)", .readOnly))
            }
            reason = "it is not a regular file"
        } catch {
            reason = "\(error.errno.name) (\(error.errno.description))"
        }
        throw Failure(
            status: .failed, code: "firmware_unreadable",
            message: "the firmware \(firmware) cannot be opened: \(reason)",
            hint: "a TDVF image is needed, such as /usr/share/ovmf/OVMF.fd of the package ovmf")
    }
}

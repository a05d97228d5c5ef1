internal import LinuxSystem
internal import ServiceSupport

extension Sandbox {
    /// The files that tdxd may reach. Holders and the program that they run are not among them: the launcher has a fence of its own.
    static func fence(_ places: Places, _ configuration: TDXDConfiguration, file: String?) -> FileSystemFence {
        var rules: [FileSystemFence.Rule] = [
            .init("/proc", .read, because: "the host's memory, processes, and what a descriptor stands for"),
            .init("/sys", .read, because: "KVM's parameters, kexec, NUMA nodes"),
            .init(
                "/sys/fs/cgroup", [.read, .writeFile, .truncate, .makeDirectory, .removeDirectory],
                because: "control groups, as far as they are tdxd's"),
            .init("/etc", .read, because: "the configuration, names of users and groups, the loader's cache"),
            .init("/dev/null", [.readFile, .writeFile], because: "what is said in vain"),
            .init(places.runtimeDirectory, .keep, because: "holders' directories, the lock"),
            .init(places.stateDirectory, .keep, because: "certificates, the drain"),
            .init(
                parentDirectory(of: places.socket), [.readDirectory, .makeSocket, .removeFile],
                because: "its own socket"),
        ]
        rules += ProgramFiles.libraryDirectories.map {
            .init($0, .read, because: "libraries that the C library loads late, for names of users and groups")
        }
        if let file {
            rules.append(.init(parentDirectory(of: file), .read, because: "the configuration that was named"))
        }
        rules += (configuration.service.firmwareDirectories ?? ["/"]).map {
            .init($0, .read, because: "firmware that clients name")
        }
        return FileSystemFence(rules: rules)
    }
}

internal import LinuxSystem
internal import ServiceSupport

/// The system calls that tdxd may make, phase by phase.
enum Sandbox {
    /// From its start on: all that there is, which is also what its launcher, and so every holder, begins with.
    static let filter = SystemCallFilter.daemon()

    /// For the only thread there is beside those that stay outside the fence.
    static func enter(_ fence: FileSystemFence) throws(StartFailure) -> FileSystemFence.Outcome {
        do throws(LinuxError) {
            let outcome = try fence.enter()
            try filter.load()
            return outcome
        } catch {
            throw StartFailure("tdxd cannot lock itself in: \(error)")
        }
    }

    /// From the moment on at which the launcher runs, for every thread: no program is started any more, and nothing asked of KVM.
    static func narrow() throws(StartFailure) {
        do throws(LinuxError) { try SystemCallFilter.serving.load() } catch {
            throw StartFailure("tdxd cannot lock itself in: \(error)")
        }
    }
}

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

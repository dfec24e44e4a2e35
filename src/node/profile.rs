//! Profilers inside the node. Each is a feature of the build, so that the normal build is not slowed down.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread::JoinHandle,
};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Subject of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProfileMode {
    /// Processor time, as a flame graph
    Cpu,
    /// Heap at the end of the window, as a flame graph
    Mem,
    /// Every allocation, as a file for DHAT's viewer
    Dhat,
}

impl ProfileMode {
    /// Feature of the build that the node needs for it.
    pub fn feature(self) -> &'static str {
        match self {
            Self::Cpu => "profile-cpu",
            Self::Mem => "profile-mem",
            Self::Dhat => "profile-dhat",
        }
    }

    /// True if this build has the feature.
    pub fn is_built_in(self) -> bool {
        match self {
            Self::Cpu => cfg!(feature = "profile-cpu"),
            Self::Mem => cfg!(feature = "profile-mem"),
            Self::Dhat => cfg!(feature = "profile-dhat"),
        }
    }
}

#[cfg(all(feature = "profile-mem", feature = "profile-dhat"))]
compile_error!("profile-mem and profile-dhat each bring an allocator: choose one");

#[cfg(feature = "profile-mem")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Settings that jemalloc reads when it starts: a sample every 512 KiB costs little and still shows the important
/// allocations.
#[cfg(feature = "profile-mem")]
#[allow(non_upper_case_globals, unsafe_code, reason = "the name that jemalloc looks for")]
#[unsafe(export_name = "malloc_conf")]
pub(super) static malloc_conf: &[u8] = b"prof:true,prof_active:true,lg_prof_sample:19\0";

#[cfg(feature = "profile-dhat")]
#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Samples per second: not a divisor of any interval of the workload.
#[cfg(feature = "profile-cpu")]
const CPU_HZ: i32 = 197;

/// A profiler of this process.
pub(super) struct Profiler {
    mode: ProfileMode,
    output: PathBuf,
    running: Mutex<Option<Running>>,
    writing: Mutex<Option<JoinHandle<Result<(), String>>>>,
}

enum Running {
    #[cfg(feature = "profile-cpu")]
    Cpu(pprof::ProfilerGuard<'static>),
    #[cfg(feature = "profile-mem")]
    Mem,
    #[cfg(feature = "profile-dhat")]
    Dhat(dhat::Profiler),
}

impl Profiler {
    /// Starts to profile into a file.
    ///
    /// # Errors
    /// In a build without that profiler, and where the kernel does not allow it.
    pub(super) fn start(mode: ProfileMode, output: &Path) -> Result<Self, String> {
        let running = begin(mode, output)?;
        let (running, writing) = (Mutex::new(Some(running)), Mutex::new(None));
        Ok(Self { mode, output: output.into(), running, writing })
    }

    /// Ends the profile, because the measured traffic is over. Writes it in the background.
    pub(super) fn traffic_ends(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(running) = running else { return };
        let output = self.output.clone();
        let writer = std::thread::Builder::new().name("profile".into()).spawn(move || write(running, &output));
        match writer {
            Ok(writer) => *self.writing.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer),
            Err(error) => tracing::warn!(%error, "the profile is not written"),
        }
    }

    /// Waits until the profile is written.
    ///
    /// # Errors
    /// Fails if the profile can't be written.
    pub(super) fn finish(&self) -> Result<(), String> {
        self.traffic_ends();
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mode = self.mode.feature();
        let failed = |error: String| format!("{mode}: {}: {error}", self.output.display());
        writing.map_or(Ok(()), |thread| {
            thread.join().unwrap_or_else(|_| Err("the writer has died".into())).map_err(failed)
        })
    }
}

#[allow(unused_variables, reason = "a build without profilers needs no file")]
fn begin(mode: ProfileMode, output: &Path) -> Result<Running, String> {
    #[cfg(feature = "profile-cpu")]
    if mode == ProfileMode::Cpu {
        let sampler = pprof::ProfilerGuardBuilder::default()
            .frequency(CPU_HZ)
            .blocklist(&["libc", "libgcc", "pthread", "vdso"])
            .build();
        return sampler.map(Running::Cpu).map_err(|error| format!("the sampler does not start: {error}"));
    }
    #[cfg(feature = "profile-mem")]
    if mode == ProfileMode::Mem {
        return Ok(Running::Mem);
    }
    #[cfg(feature = "profile-dhat")]
    if mode == ProfileMode::Dhat {
        return Ok(Running::Dhat(dhat::Profiler::builder().file_name(output).build()));
    }
    let feature = mode.feature();
    Err(format!("this build has no such profiler: build it with cargo build --release --features {feature}"))
}

#[allow(unused_variables, reason = "a build without profilers has nothing to write")]
fn write(running: Running, output: &Path) -> Result<(), String> {
    match running {
        #[cfg(feature = "profile-cpu")]
        Running::Cpu(guard) => {
            let report = guard.report().build().map_err(|error| error.to_string())?;
            let mut file = std::fs::File::create(output).map_err(|error| error.to_string())?;
            report.flamegraph(&mut file).map_err(|error| error.to_string())
        }
        #[cfg(feature = "profile-mem")]
        Running::Mem => {
            let control = jemalloc_pprof::PROF_CTL.as_ref().ok_or("jemalloc does not profile in this build")?;
            let svg = control.blocking_lock().dump_flamegraph().map_err(|error| error.to_string())?;
            std::fs::write(output, svg).map_err(|error| error.to_string())
        }
        #[cfg(feature = "profile-dhat")]
        // Dropping the profiler writes its file.
        Running::Dhat(profiler) => {
            drop(profiler);
            Ok(())
        }
    }
}

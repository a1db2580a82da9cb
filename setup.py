"""Packaging of mmpt_fairseq; `make venv` makes the pinned environment of requirements.txt."""

from setuptools import find_packages, setup

# Two requirements are left out on purpose:
# - fairseq-fixed: its metadata requires torchaudio, so naming it here would make a plain
#   `pip install -e .` install torchaudio and with it another, CUDA-linked torch. It has to be
#   installed with --no-deps --no-build-isolation (requirements-fairseq.txt).
# - torch: unpinned, pip would replace the build that is there or fetch several gigabytes; the
#   one version that is tested stands in requirements.txt.
# Versions stand here only where others would not work: requirements.txt pins every one of them.
INSTALL_REQUIRES = [
    # fairseq's own dependencies, less torch and torchaudio
    "antlr4-python3-runtime==4.9.3",
    "bitarray",
    "cffi",
    "cython",
    "hydra-core==1.3.2",
    "omegaconf==2.3.0",
    "packaging",
    "regex",
    "sacrebleu",
    "scikit-learn",
    "tqdm",
    # ours
    "av>=17",  # its conversions can be told to start no threads
    "editdistance",  # fairseq's WER scorer
    "Jinja2",
    "jiwer",
    "kaldi-native-fbank",
    "matplotlib",
    "numpy",
    "pillow",
    "pyyaml",
    "scipy",
    "sentencepiece",
    "soundfile",
    "tensorboardX",
]

setup(
    name="mmpt_fairseq",
    version="0.1.0",
    description="A fairseq plugin for multi-stage multi-modal speech pre-training",
    author="mmpt_fairseq contributors",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.13",
    # manifests: `python -m manifests.generated` must work where the project is installed.
    packages=find_packages(include=["mmpt_fairseq*", "manifests*"]),
    package_data={"mmpt_fairseq.report": ["templates/*"], "manifests": ["templates/*"]},
    entry_points={
        "console_scripts": [
            "mmpt-report = mmpt_fairseq.report.__main__:main",
            "mmpt-transcribe = mmpt_fairseq.transcription.__main__:main",
        ]
    },
    install_requires=INSTALL_REQUIRES,
    extras_require={
        "export": ["onnx", "onnxruntime", "safetensors"],
        "generated": ["espeakng-loader"],
        "dev": ["pytest", "pytest-xdist", "ruff"],
    },
    classifiers=[
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: MIT License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    zip_safe=False,
)
